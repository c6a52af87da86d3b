// Owns what a caller may ask of the sampler, and the ranges. Does not own how JSON or flags spell it, nor what the options do
// (sampling/sampler.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace tritllm {

// Added to the logit of one token: a finite number of at most kLargestLogitBias, or minus infinity, which bans the token.
struct LogitBias {
  uint32_t token = 0;
  float bias = 0;
};

inline constexpr float kLargestTemperature = 100;
inline constexpr float kSmallestRepeatPenalty = 0.01f;
inline constexpr float kLargestRepeatPenalty = 100;
inline constexpr float kLargestAdditivePenalty = 100;
// Large enough for callers that ban a token with -1e9, small enough that no sum with a logit overflows.
inline constexpr float kLargestLogitBias = 1e9f;
inline constexpr uint32_t kWholeContext = std::numeric_limits<uint32_t>::max();

// The defaults sample from the model's own distribution.
struct SamplerOptions {
  float temperature = 1;        // 0: greedy
  uint32_t top_k = 0;           // 0: off
  float top_p = 1;              // 1: off
  float min_p = 0;              // 0: off
  float typical_p = 1;          // 1: off
  float repeat_penalty = 1;     // 1: off; divides positive logits and multiplies the others
  float presence_penalty = 0;   // subtracted once from a token that occurred
  float frequency_penalty = 0;  // subtracted for each time that the token occurred
  // The penalties look at so many of the last tokens, prompt included. As in llama.cpp, 0 turns them off; kWholeContext takes all.
  uint32_t penalty_window = 64;
  std::vector<LogitBias> logit_bias = {};  // no token twice
  uint64_t seed = 0;
};

// Throws an Error that names the field, its range and the value found.
void validate(const SamplerOptions& options, size_t vocabulary_size);

}  // namespace tritllm
