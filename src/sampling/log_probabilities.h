// Owns the model's own probabilities of a row of logits, for reports, scores and perplexity: no penalty, no temperature.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tritllm {

struct TokenLogProbability {
  uint32_t token = 0;
  float log_probability = 0;

  bool operator==(const TokenLogProbability&) const = default;
};

// log Σ exp(logit), computed in double so that a long row loses nothing. Refuses NaN, plus infinity and a row without any
// finite logit (the empty row too).
double log_sum_exp(std::span<const float> logits);

// Natural logarithm of softmax(logits)[token]; minus infinity for a logit of minus infinity.
float log_probability(std::span<const float> logits, uint32_t token);

// The `count` most probable tokens (all, where there are fewer), the most probable first, of equal ones the lower token.
std::vector<TokenLogProbability> top_log_probabilities(std::span<const float> logits, size_t count);

}  // namespace tritllm
