// Owns computations over a whole row of logits, one for each token of the vocabulary: the largest,
// exponentials, and the model's own probabilities for reports, scores and perplexity. Does not own the choice of a token
// (sampler.h).
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

// The largest; minus infinity where all are. Throws an Error for NaN and plus infinity.
float largest_logit(std::span<const float> logits);

// A lower bound on the count-th largest logit; usually few more tokens reach it. Logits hold no NaN. `room` is kept by the caller,
// so that nothing is allocated after the first call.
float logit_reached_by(std::span<const float> logits, size_t count, std::vector<int32_t>& room);

// values[i] = e^values[i], for values up to 0: to two units in the last place, and 0 below e^-708. The same bits on every machine.
void exponentiate(std::span<double> values) noexcept;

// log Σ exp(logit), summed in double so that a long row loses nothing. Throws an Error for NaN, plus infinity and a row without any
// finite logit, the empty row included.
double log_sum_exp(std::span<const float> logits);

// Natural logarithm of softmax(logits)[token]; minus infinity for a logit of minus infinity.
float log_probability(std::span<const float> logits, uint32_t token);

// The `count` most probable tokens, or all where there are fewer: the most probable first, of equal ones the lower token.
std::vector<TokenLogProbability> top_log_probabilities(std::span<const float> logits, size_t count);

}  // namespace tritllm
