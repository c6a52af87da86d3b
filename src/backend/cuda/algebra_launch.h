// Owns the launchers of calibration's kernels: like launch.h, plain numbers and device pointers. Products are cuBLAS's (cublas.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cuda/launch.h"

namespace tritllm::cuda {

// Columns whose groups are rounded by one launch, before the others learn of their errors.
inline constexpr int kRoundedColumns = 128;

// Rows of a matrix while they are rounded; all [rows][columns] unless stated.
struct RoundingRows {
  int64_t rows, columns;  // columns: a multiple of 16
  const float* targets;
  float* work;  // targets with the feedback so far, later what they lack; then the gradient is there (gradient)
  float* gradient;
  float* decoded;
  int8_t* codes;
  uint8_t* scale_codes;  // [rows][columns / 16]
  float* changes;        // [rows][kRoundedColumns]: errors, or changes, of the block's columns
  double* errors;        // [rows]
};

// codec::FeedbackFactors on the device.
struct RoundingFactorsView {
  const float *moments, *feedback, *variances, *group_inverse, *group_feedback, *group_variances;
};

struct RoundingCodebook {
  float scales[27];
  float largest_code;
};

// The columns [first, first + kRoundedColumns) that there are: every group in turn, with feedback inside the block. `changes` gets
// the errors.
Status launch_round_block(const RoundingRows& rows, const RoundingFactorsView& factors, const RoundingCodebook& codebook,
                          int64_t first, Stream stream);
// The same columns once more, given all others. `changes` gets former minus new values.
Status launch_improve_block(const RoundingRows& rows, const RoundingFactorsView& factors, const RoundingCodebook& codebook,
                            int64_t first, Stream stream);
// work = targets − decoded.
Status launch_lacking(const RoundingRows& rows, Stream stream);
// Errors of the rows, and scale code 0 for groups of zeros.
Status launch_finish_rows(const RoundingRows& rows, Stream stream);

// out[i] = x[t][r]·weights[t], i over [tokens][width].
Status launch_weigh(const float* x, const float* weights, int64_t tokens, int64_t width, float* out, Stream stream);
// sums[i] += values[i].
Status launch_add_to_sums(const float* values, int64_t count, double* sums, Stream stream);
// What lies above the diagonal is copied below it.
Status launch_mirror(double* matrix, int64_t size, Stream stream);
// The elements in reverse order.
Status launch_reverse(double* values, int64_t count, Stream stream);
Status launch_identity(double* matrix, int64_t size, Stream stream);
// out = the matrix across; not in place.
Status launch_across(const double* matrix, int64_t size, double* out, Stream stream);

}  // namespace tritllm::cuda
