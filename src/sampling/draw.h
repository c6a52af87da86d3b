// Owns the choice of a token from one row of logits by temperature, narrowing and a number drawn beforehand: what a backend does
// where the logits are. Does not own penalties, biases nor the generator of random numbers (sampling/sampler.h).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace tritllm {

struct Candidate {
  uint32_t token;
  float logit;    // finite
  double weight;  // proportional to its probability, as the last call of weigh() left it
};

// Never empty: every step below keeps at least one candidate, and leaves them in an order that every machine agrees on.
using Candidates = std::vector<Candidate>;

// Sets each weight to exp(logit / temperature) relative to the largest, and returns their sum.
double weigh(Candidates& candidates, double temperature = 1);

// The `count` largest logits; of equal ones the lower tokens.
void keep_top_k(Candidates& candidates, uint32_t count);

// The fewest candidates whose surprise (−log p) is nearest to the expected surprise and whose probabilities add up to `mass`.
void keep_typical(Candidates& candidates, double mass);

// The fewest most probable candidates whose probabilities add up to `mass`. `total`: the sum of the weights of the candidates and
// of others that are less probable than all of them; 0: there are none.
void keep_top_p(Candidates& candidates, double mass, double total = 0);

// All candidates whose probability is at least `ratio` times the largest one.
void keep_min_p(Candidates& candidates, double ratio);

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
  // The same from some of a row's tokens: all that the settings can keep, in any order, and perhaps others. Temperature is not 0,
  // and `total` is the sum of exp(logit - largest) over the whole row where the row is narrowed by top_p and nothing before it.
  // Where that sum is off by a rounding, a draw that falls on the edge of two tokens may go to the other one.
  uint32_t draw_from(std::span<const uint32_t> tokens, std::span<const float> logits, double total, const DrawSettings& settings);

 private:
  void collect_candidates(std::span<const float> logits, uint32_t top_k);
  // `total`: of the whole row, where the candidates are only some of it; 0: they are all.
  uint32_t narrow_and_pick(const DrawSettings& settings, double total);
  uint32_t pick(const DrawSettings& settings);

  std::vector<int32_t> block_maxima_;
  Candidates candidates_;
};

}  // namespace tritllm
