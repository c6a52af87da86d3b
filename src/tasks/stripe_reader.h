// Owns the reading of a matrix in stripes: float32, checked, padded to whole groups. Does not own what is done with them.
#pragma once

#include <vector>

#include "codec/geometry.h"
#include "codec/grouping.h"
#include "io/source_tensor.h"

namespace tritllm {

// A tensor as the codec sees it: a matrix, or a stack [experts, rows, columns] whose experts have codebooks of their own.
codec::MatrixShape codec_shape(const SourceTensor& tensor) noexcept;

// Throws an Error that names tensor, row and column where a weight is not finite or beyond FP16's range. `first`: position of the
// first weight in the tensor.
void check_weights(const SourceTensor& tensor, uint64_t first, std::span<const float> weights);

// One thread's buffers, reused from stripe to stripe.
class StripeReader {
 public:
  // The stripe's groups, [padded_groups()][16], until the next call; the mapped pages behind them are given back. Checks them.
  const float* read(const SourceTensor& tensor, const codec::Stripe& stripe);

 private:
  std::vector<float> weights_, padded_;
};

}  // namespace tritllm
