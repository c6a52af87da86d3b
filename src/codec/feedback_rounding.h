// Owns the rounding of a matrix's rows where the inputs are known: an error in one weight is made good by the weights after it, and
// then group after group is rounded anew for as long as that helps. Does not own where the moments come from (src/calibration), nor
// how the codebook is chosen (quantizer.h).
//
// The error of a row is (t − q)·H·(t − q)ᵀ, with H = Σ x·xᵀ over the inputs x. Rounding in order with feedback is that of GPTQ
// (Frantar et al., 2022); here the scale of each group is chosen among all 27 by what is left of the error with feedback inside the
// group. The sweeps afterwards are block coordinate descent on the same error, which they never raise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/codebook.h"
#include "codec/group_kernels.h"

namespace tritllm::codec {

// H and what follows from it; `columns` is a multiple of 16.
struct FeedbackFactors {
  size_t columns = 0;
  std::vector<float> moments;    // H, [columns][columns]
  std::vector<float> feedback;   // [columns][columns]: an error of column i adds [i][j] times itself to the target of column j > i
  std::vector<float> variances;  // [columns]: what is left of the squared error of each column once later ones have made it good
  // The same for the 16 columns of each group, with all others fixed.
  std::vector<float> group_inverse;    // [columns / 16][16][16]: inverse of the group's block of H
  std::vector<float> group_feedback;   // [columns / 16][16][16]
  std::vector<float> group_variances;  // [columns / 16][16]
};

// Rounded rows, in the order of the factors' columns.
struct RoundedRows {
  std::vector<int8_t> codes;         // [rows][columns]
  std::vector<uint8_t> scale_codes;  // [rows][columns / 16]
  double error = 0;                  // Σ over the rows of (t − q)·H·(t − q)ᵀ; 0 where there was no sweep
};

// How often every group is rounded anew: more than four change nothing that can be measured (docs/lab/2026-11-calibration.md).
inline constexpr int kDescentSweeps = 4;

// targets: [rows][columns], finite. Rows do not depend on each other; a few dozen at a time keep their work space in the cache.
void round_rows(const FeedbackFactors& factors, const Codebook& codebook, int depth, std::span<const float> targets,
                const GroupKernels& kernels, RoundedRows& out, int sweeps = kDescentSweeps);

}  // namespace tritllm::codec
