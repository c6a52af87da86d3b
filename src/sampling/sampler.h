// Owns the choice of the next token from a row of logits. Does not own when a text ends (stop tokens and strings), nor the
// probabilities that are reported (sampling/logits.h: those are the model's, before any of this).
//
// The chain, in the order of llama.cpp's default one:
//   1. logit_bias is added.
//   2. Penalties, for a token that occurs n > 0 times among the last penalty_window tokens: a positive logit is divided by
//      repeat_penalty, any other multiplied by it; then n·frequency_penalty + presence_penalty is subtracted.
//   3. Temperature 0 ends here: the largest logit wins, of equal ones the lowest token. Nothing is rounded or drawn.
//   4. top_k, typical_p, top_p, min_p, each on the probabilities (at temperature 1) of the candidates that the one before left.
//   5. The logits are divided by the temperature, and a token is drawn.
// The same seed and logits give the same tokens on every machine, except that min_p calls the C library's log. The draw maps a
// 64-bit Mersenne Twister by itself, because the standard fixes that generator's numbers but not those of its distributions;
// exponentials are our own too (sampling/logits.h). Steps 3 to 5 are TokenDraw's (sampling/draw.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "sampling/draw.h"
#include "sampling/sampler_options.h"

namespace tritllm {

// Buffers of a vocabulary's size. One set serves any number of samplers in turn, so that a waiting request costs none of them.
struct SamplerRoom {
  std::vector<float> allowed;    // logits after a TokenConstraint
  std::vector<float> adjusted;   // logits with bias and penalties
  std::vector<uint32_t> counts;  // of each token in the penalty window; all zero between calls
  TokenDraw draw;
};

// What one sequence keeps from token to token: its options and its random numbers.
class Sampler {
 public:
  // Throws an Error where the options do not hold (validate()).
  Sampler(SamplerOptions options, size_t vocabulary_size);

  // `logits`: one for each token of the vocabulary; minus infinity for a token that cannot be. `history`: the tokens of prompt and
  // answer so far, for the penalties. Throws an Error for a row with NaN or plus infinity, and for one that leaves no token.
  // Allocates nothing once `room` has its size.
  uint32_t sample(std::span<const float> logits, std::span<const uint32_t> history, SamplerRoom& room);

  // Whether biases or penalties change the logits first. Where they do not, next_draw() is the same choice for a TokenDraw.
  bool changes_logits() const noexcept { return !options_.logit_bias.empty() || has_penalties(); }
  // Takes the next random number.
  DrawSettings next_draw();

  const SamplerOptions& options() const noexcept { return options_; }

 private:
  bool has_penalties() const noexcept;
  std::span<const float> adjust(std::span<const float> logits, std::span<const uint32_t> history, SamplerRoom& room) const;
  void penalise(std::span<const uint32_t> history, SamplerRoom& room) const;

  SamplerOptions options_;
  size_t vocabulary_size_;
  std::mt19937_64 generator_;
};

}  // namespace tritllm
