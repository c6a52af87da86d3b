// Owns the choice of the next token from a row of logits. Does not own when a text ends (stop tokens and strings) nor the
// probabilities that are reported (sampling/log_probabilities.h: those are the model's, before any of this).
//
// The chain, in the order of llama.cpp's default one:
//   1. logit_bias is added.
//   2. Penalties, for a token that occurred n > 0 times in the window: a positive logit is divided by repeat_penalty, any other
//      multiplied by it; then n·frequency_penalty + presence_penalty is subtracted.
//   3. Temperature 0 ends here: the largest logit wins, of equal ones the lowest token. Nothing is rounded or drawn.
//   4. top_k, typical_p, top_p, min_p, each on the probabilities (at temperature 1) of what the one before left.
//   5. The logits are divided by the temperature, and a token is drawn.
// The draw maps a 64-bit Mersenne Twister by itself, because the standard fixes that generator's numbers but not those of its
// distributions, and exponentials are its own (sampling/logits.h): one seed and the same logits give the same tokens everywhere, but
// where the last bit of a C library's logarithm decides what min_p keeps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>

#include "sampling/candidates.h"
#include "sampling/draw.h"
#include "sampling/recent_tokens.h"
#include "sampling/sampler_options.h"

namespace tritllm {

class Sampler {
 public:
  // Throws an Error where the options do not hold (validate()).
  Sampler(SamplerOptions options, size_t vocabulary_size);

  // `logits`: one for each token of the vocabulary; minus infinity for a token that cannot be. Refuses a row with NaN or plus
  // infinity, and one that leaves no token. Allocates nothing after the first call.
  uint32_t sample(std::span<const float> logits);

  // The same choice as settings for TokenDraw, with the next random number. Nothing where logits are to be changed first.
  std::optional<DrawSettings> draw_settings();

  // What the penalties look at: call it for each token of the prompt, in order, and for each sampled one.
  void accept(uint32_t token);

  const SamplerOptions& options() const noexcept { return options_; }

 private:
  bool has_penalties() const noexcept;
  std::span<const float> adjust(std::span<const float> logits);
  void penalise();
  void collect_candidates(std::span<const float> logits);
  void narrow();
  uint32_t draw();

  SamplerOptions options_;
  RecentTokens recent_;
  std::mt19937_64 generator_;
  std::vector<float> adjusted_;  // logits with bias and penalties
  std::vector<int32_t> block_maxima_;
  Candidates candidates_;
};

}  // namespace tritllm
