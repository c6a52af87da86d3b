#include "sampling/sampler_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/error.h"

namespace tritllm {
namespace {

// The comparison is written so that NaN fails it.
void require_range(std::string_view field, float value, float least, float most) {
  if (value >= least && value <= most) return;
  throw Error(ErrorCode::kUsage, field, fmt::format("expected a number from {} to {}, found {}", least, most, value));
}

void require_known_token(const LogitBias& entry, size_t vocabulary_size) {
  if (entry.token < vocabulary_size) return;
  throw Error(ErrorCode::kUsage, "logit_bias",
              fmt::format("expected a token below the vocabulary's size of {}, found {}", vocabulary_size, entry.token));
}

void require_usable_bias(const LogitBias& entry) {
  const bool bans = std::isinf(entry.bias) && entry.bias < 0;
  if (bans || std::abs(entry.bias) <= kLargestLogitBias) return;
  throw Error(ErrorCode::kUsage, "logit_bias",
              fmt::format("expected a number from {} to {} or minus infinity for token {}, found {}", -kLargestLogitBias,
                          kLargestLogitBias, entry.token, entry.bias));
}

void require_distinct_tokens(std::vector<LogitBias> entries) {
  std::ranges::sort(entries, {}, &LogitBias::token);
  const auto twin = std::ranges::adjacent_find(entries, {}, &LogitBias::token);
  if (twin == entries.end()) return;
  throw Error(ErrorCode::kUsage, "logit_bias", fmt::format("expected each token once, found token {} twice", twin->token));
}

}  // namespace

void validate(const SamplerOptions& options, size_t vocabulary_size) {
  require_range("temperature", options.temperature, 0, kLargestTemperature);
  require_range("top_p", options.top_p, 0, 1);
  require_range("min_p", options.min_p, 0, 1);
  require_range("typical_p", options.typical_p, 0, 1);
  require_range("repeat_penalty", options.repeat_penalty, kSmallestRepeatPenalty, kLargestRepeatPenalty);
  require_range("presence_penalty", options.presence_penalty, -kLargestAdditivePenalty, kLargestAdditivePenalty);
  require_range("frequency_penalty", options.frequency_penalty, -kLargestAdditivePenalty, kLargestAdditivePenalty);
  for (const LogitBias& entry : options.logit_bias) {
    require_known_token(entry, vocabulary_size);
    require_usable_bias(entry);
  }
  require_distinct_tokens(options.logit_bias);
}

}  // namespace tritllm
