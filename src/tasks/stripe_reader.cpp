#include "tasks/stripe_reader.h"

#include <fmt/format.h>

#include <cmath>

#include "codec/quantizer.h"
#include "core/error.h"
#include "core/half.h"
#include "io/mapped_file.h"

namespace tritllm {

codec::MatrixShape codec_shape(const SourceTensor& tensor) noexcept {
  return {tensor.rows(), tensor.columns(), tensor.shape.size() == 3 ? tensor.shape.front() : 0};
}

void check_weights(const SourceTensor& tensor, uint64_t first, std::span<const float> weights, float largest) {
  const auto bad = codec::find_unusable_weight(weights, largest);
  if (!bad) return;
  const uint64_t index = first + *bad;
  const float weight = weights[*bad];
  const std::string where = fmt::format("{}: row {}, column {}", tensor.place, index / tensor.columns(), index % tensor.columns());
  if (!std::isfinite(weight)) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("expected a finite number, found {}", weight),
                "the source model is damaged; fetch it again");
  }
  if (largest <= kLargestHalf) {
    throw Error(ErrorCode::kUnsupported, where,
                fmt::format("{} is beyond FP16, which ends at {}: an FP16 folder cannot hold it", weight, largest),
                "ask for the packed folder alone, which can (options.output.emit_model packed)");
  }
  throw Error(ErrorCode::kUnsupported, where,
              fmt::format("{} is beyond {}, the largest weight that tritllm packs", weight, codec::kLargestWeight),
              "keep the tensor by a depth rule (options.policy.rules, 'REGEX=keep') and ask for the packed folder alone "
              "(options.output.emit_model packed)");
}

const float* StripeReader::read(const SourceTensor& tensor, const codec::Stripe& stripe, float largest) {
  const codec::MatrixShape shape = codec_shape(tensor);
  const codec::WeightRange range = codec::weights_in_groups(shape, stripe.first_group, stripe.groups);
  weights_.resize(range.count);
  read_float32(tensor, range.first, weights_);
  release_pages(stored_bytes(tensor, range.first, range.count));
  check_weights(tensor, range.first, weights_, largest);
  const size_t padded = stripe.padded_groups() * codec::kGroupSize;
  if (range.count == padded) return weights_.data();
  padded_.resize(padded);
  codec::pad_groups(shape, stripe.first_group, stripe.padded_groups(), weights_.data(), padded_.data());
  return padded_.data();
}

}  // namespace tritllm
