#include "tasks/stripe_reader.h"

#include <fmt/format.h>

#include "codec/quantizer.h"
#include "core/error.h"
#include "core/half.h"
#include "io/mapped_file.h"

namespace tritllm {

codec::MatrixShape codec_shape(const SourceTensor& tensor) noexcept {
  return {tensor.rows(), tensor.columns(), tensor.shape.size() == 3 ? tensor.shape.front() : 0};
}

void check_weights(const SourceTensor& tensor, uint64_t first, std::span<const float> weights) {
  const auto bad = codec::find_unusable_weight(weights);
  if (!bad) return;
  const uint64_t index = first + *bad;
  throw Error(ErrorCode::kBadInput,
              fmt::format("{}: row {}, column {}", tensor.place, index / tensor.columns(), index % tensor.columns()),
              fmt::format("expected a finite number up to {}, found {}", kLargestHalf, weights[*bad]),
              "the source model is damaged; fetch it again");
}

const float* StripeReader::read(const SourceTensor& tensor, const codec::Stripe& stripe) {
  const codec::MatrixShape shape = codec_shape(tensor);
  const codec::WeightRange range = codec::weights_in_groups(shape, stripe.first_group, stripe.groups);
  weights_.resize(range.count);
  read_float32(tensor, range.first, weights_);
  release_pages(stored_bytes(tensor, range.first, range.count));
  check_weights(tensor, range.first, weights_);
  const size_t padded = stripe.padded_groups() * codec::kGroupSize;
  if (range.count == padded) return weights_.data();
  padded_.resize(padded);
  codec::pad_groups(shape, stripe.first_group, stripe.padded_groups(), weights_.data(), padded_.data());
  return padded_.data();
}

}  // namespace tritllm
