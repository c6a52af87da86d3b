// Owns the choice of a token from one row of logits by temperature, narrowing and a number drawn beforehand: what a backend does
// where the logits are. Does not own penalties, biases nor the generator of random numbers (sampling/sampler.h).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "sampling/candidates.h"

namespace tritllm {

inline constexpr uint32_t kNoToken = std::numeric_limits<uint32_t>::max();

// The fields of SamplerOptions that narrow a row, with the meaning that they have there.
struct DrawSettings {
  float temperature = 0;  // 0: the largest logit, of equal ones the lowest token
  uint32_t top_k = 0;     // 0: off
  float typical_p = 1, top_p = 1, min_p = 0;
  double uniform = 0;  // in [0, 1): where in the remaining probability the chosen token lies
};

// Chooses tokens one after the other, in scratch memory that grows to the largest vocabulary and stays.
class TokenDraw {
 public:
  // Throws an Error for NaN, plus infinity, and a row in which every token is at minus infinity.
  uint32_t draw(std::span<const float> logits, const DrawSettings& settings);

 private:
  void collect_candidates(std::span<const float> logits, uint32_t top_k);
  uint32_t pick(const DrawSettings& settings);

  std::vector<int32_t> block_maxima_;
  Candidates candidates_;
};

}  // namespace tritllm
