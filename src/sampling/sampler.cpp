#include "sampling/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"
#include "sampling/logits.h"

namespace tritllm {
namespace {

SamplerOptions validated(SamplerOptions options, size_t vocabulary_size) {
  validate(options, vocabulary_size);
  return options;
}

// In [0, 1): the 53 upper bits of the generator, as many as a double holds.
double uniform(std::mt19937_64& generator) { return static_cast<double>(generator() >> 11) * 0x1p-53; }

}  // namespace

Sampler::Sampler(SamplerOptions options, size_t vocabulary_size)
    : options_(validated(std::move(options), vocabulary_size)),
      recent_(vocabulary_size, options_.penalty_window),
      generator_(options_.seed),
      adjusted_(vocabulary_size) {
  candidates_.reserve(vocabulary_size);
}

uint32_t Sampler::sample(std::span<const float> logits) {
  if (logits.size() != adjusted_.size()) {
    throw Error(ErrorCode::kBadInput, "logits", fmt::format("expected {} values, found {}", adjusted_.size(), logits.size()));
  }
  const std::span<const float> adjusted = adjust(logits);
  const float largest = largest_logit(adjusted);
  if (std::isinf(largest)) {
    throw Error(ErrorCode::kBadInput, "logits", "every token is at minus infinity", "ban fewer tokens");
  }
  if (options_.temperature == 0) return static_cast<uint32_t>(std::ranges::find(adjusted, largest) - adjusted.begin());
  collect_candidates(adjusted);
  narrow();
  return draw();
}

std::optional<DrawSettings> Sampler::draw_settings() {
  if (!options_.logit_bias.empty() || has_penalties()) return std::nullopt;
  return DrawSettings{.temperature = options_.temperature,
                      .top_k = options_.top_k,
                      .typical_p = options_.typical_p,
                      .top_p = options_.top_p,
                      .min_p = options_.min_p,
                      .uniform = options_.temperature == 0 ? 0.0 : uniform(generator_)};
}

void Sampler::accept(uint32_t token) {
  if (token >= adjusted_.size()) {
    throw Error(ErrorCode::kBadInput, "token",
                fmt::format("expected one below the vocabulary's size of {}, found {}", adjusted_.size(), token));
  }
  recent_.add(token);
}

bool Sampler::has_penalties() const noexcept {
  return options_.repeat_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0;
}

std::span<const float> Sampler::adjust(std::span<const float> logits) {
  if (options_.logit_bias.empty() && !has_penalties()) return logits;
  std::ranges::copy(logits, adjusted_.begin());
  for (const LogitBias& entry : options_.logit_bias) adjusted_[entry.token] += entry.bias;
  if (has_penalties()) penalise();
  return adjusted_;
}

void Sampler::collect_candidates(std::span<const float> logits) {
  constexpr float kLeastPossible = std::numeric_limits<float>::lowest();
  float least = kLeastPossible;
  if (options_.top_k > 0) least = std::max(least, logit_reached_by(logits, options_.top_k, block_maxima_));
  candidates_.clear();
  for (size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] >= least) candidates_.push_back({static_cast<uint32_t>(token), logits[token], 0});
  }
}

void Sampler::penalise() {
  const std::span<const uint32_t> counts = recent_.counts();
  for (size_t token = 0; token < adjusted_.size(); ++token) {
    if (counts[token] == 0) continue;
    float& logit = adjusted_[token];
    logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
    logit -= static_cast<float>(counts[token]) * options_.frequency_penalty + options_.presence_penalty;
  }
}

void Sampler::narrow() {
  if (options_.top_k > 0) keep_top_k(candidates_, options_.top_k);
  if (options_.typical_p < 1) keep_typical(candidates_, options_.typical_p);
  if (options_.top_p < 1) keep_top_p(candidates_, options_.top_p);
  if (options_.min_p > 0) keep_min_p(candidates_, options_.min_p);
}

uint32_t Sampler::draw() {
  double remaining = uniform(generator_) * weigh(candidates_, options_.temperature);
  uint32_t chosen = candidates_.front().token;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight == 0) continue;
    // Rounding may leave a remainder at the end; then the last possible candidate stands.
    chosen = candidate.token;
    remaining -= candidate.weight;
    if (remaining < 0) break;
  }
  return chosen;
}

}  // namespace tritllm
