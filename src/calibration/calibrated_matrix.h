// Owns the rounding of one matrix by what is known of its inputs: its codebook, and its rows on all threads. Does not own the way
// of its codes into files (src/tasks).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "calibration/moment_factors.h"
#include "codec/codebook.h"
#include "codec/geometry.h"
#include "core/thread_pool.h"

namespace tritllm {

struct CalibratedMatrix {
  codec::MatrixShape shape;
  int depth = 0;
  codec::Codebook codebook{};
  std::vector<int8_t> codes;         // [groups][16], padding included
  std::vector<uint8_t> scale_codes;  // [groups]
  double loss = 0;                   // Σ w·|(target − decoded)·x|² over the tokens of the moments, damping included

  // [rows][columns]
  std::vector<float> decoded(ThreadPool& pool) const;
};

// weights: [rows][columns] of the source, finite.
CalibratedMatrix calibrate_matrix(std::vector<float> weights, codec::MatrixShape shape, int depth, const MomentFactors& factors,
                                  bool takes_residual, const codec::GroupKernels& kernels, ThreadPool& pool);

// The same matrix by itself, as recipe optimal has it.
CalibratedMatrix optimal_matrix(const std::vector<float>& weights, codec::MatrixShape shape, int depth,
                                const codec::GroupKernels& kernels, ThreadPool& pool);

}  // namespace tritllm
