#include "sampling/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/error.h"

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
    : options_(validated(std::move(options), vocabulary_size)), vocabulary_size_(vocabulary_size), generator_(options_.seed) {}

uint32_t Sampler::sample(std::span<const float> logits, std::span<const uint32_t> history, SamplerRoom& room) {
  if (logits.size() != vocabulary_size_) {
    throw Error(ErrorCode::kBadInput, "logits", fmt::format("expected {} values, found {}", vocabulary_size_, logits.size()));
  }
  return room.draw.draw(adjust(logits, history, room), next_draw());
}

DrawSettings Sampler::next_draw() {
  return {.temperature = options_.temperature,
          .top_k = options_.top_k,
          .typical_p = options_.typical_p,
          .top_p = options_.top_p,
          .min_p = options_.min_p,
          .uniform = options_.temperature == 0 ? 0.0 : uniform(generator_)};
}

bool Sampler::has_penalties() const noexcept {
  return options_.repeat_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0;
}

std::span<const float> Sampler::adjust(std::span<const float> logits, std::span<const uint32_t> history, SamplerRoom& room) const {
  if (!changes_logits()) return logits;
  room.adjusted.assign(logits.begin(), logits.end());
  for (const LogitBias& entry : options_.logit_bias) room.adjusted[entry.token] += entry.bias;
  if (has_penalties()) penalise(history, room);
  return room.adjusted;
}

void Sampler::penalise(std::span<const uint32_t> history, SamplerRoom& room) const {
  const auto recent = history.last(std::min<size_t>(history.size(), options_.penalty_window));
  const auto unknown = std::ranges::find_if(recent, [&](uint32_t token) { return token >= vocabulary_size_; });
  if (unknown != recent.end()) {
    throw Error(ErrorCode::kBadInput, "token",
                fmt::format("expected one below the vocabulary's size of {}, found {}", vocabulary_size_, *unknown));
  }
  room.counts.resize(vocabulary_size_);
  for (const uint32_t token : recent) ++room.counts[token];
  for (const uint32_t token : recent) {
    const uint32_t count = std::exchange(room.counts[token], 0);
    if (count == 0) continue;
    float& logit = room.adjusted[token];
    logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
    logit -= static_cast<float>(count) * options_.frequency_penalty + options_.presence_penalty;
  }
}

}  // namespace tritllm
