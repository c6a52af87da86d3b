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

// Candidates whose weights are computed at a time.
constexpr size_t kBlock = 256;

// Total orders: which of two equal candidates comes first must not depend on the library's sort.
bool more_probable(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; }

float largest_of(const Candidates& candidates) { return std::ranges::max_element(candidates, {}, &Candidate::logit)->logit; }

// Sorts the `count` candidates that come next in the order, given that the first `sorted` are in place.
template <typename Before>
void sort_next(Candidates& candidates, size_t sorted, size_t count, Before before) {
  const auto begin = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
  const auto end = begin + static_cast<std::ptrdiff_t>(count);
  if (end != candidates.end()) std::nth_element(begin, end, candidates.end(), before);
  std::sort(begin, end, before);
}

// Keeps the shortest beginning, in the order `before`, whose weight is at least `wanted`. Sorts no more than it needs: a vocabulary
// has a hundred thousand tokens and the beginning usually some dozens.
template <typename Before>
void keep_beginning(Candidates& candidates, double wanted, Before before) {
  double sum = 0;
  size_t sorted = 0;
  for (size_t step = 64; sorted < candidates.size(); step *= 2) {
    const size_t end = sorted + std::min(step, candidates.size() - sorted);
    sort_next(candidates, sorted, end - sorted, before);
    for (; sorted < end; ++sorted) {
      sum += candidates[sorted].weight;
      if (sum >= wanted) {
        candidates.resize(sorted + 1);
        return;
      }
    }
  }
}

// Drops candidates below a logit above which the others already weigh more than `wanted`, without sorting: weights are added up in
// steps of a sixteenth of a nat below the largest logit, and in a last one for the rest.
void drop_tail(Candidates& candidates, double wanted) {
  constexpr size_t kSteps = 512;
  constexpr float kStepsPerNat = 16.0f;
  const float largest = largest_of(candidates);
  const auto step_of = [largest](const Candidate& candidate) {
    return static_cast<size_t>(std::min((largest - candidate.logit) * kStepsPerNat, static_cast<float>(kSteps - 1)));
  };
  double weights[kSteps] = {};
  for (const Candidate& candidate : candidates) weights[step_of(candidate)] += candidate.weight;
  // A margin for sums in another order, which round differently.
  const double enough = wanted * (1 + 1e-9);
  size_t last = 0;
  for (double sum = weights[0]; sum < enough && last + 1 < kSteps; sum += weights[last]) ++last;
  std::erase_if(candidates, [&](const Candidate& candidate) { return step_of(candidate) > last; });
}

SamplerOptions validated(SamplerOptions options, size_t vocabulary_size) {
  validate(options, vocabulary_size);
  return options;
}

// In [0, 1): the 53 upper bits of the generator, as many as a double holds.
double uniform(std::mt19937_64& generator) { return static_cast<double>(generator() >> 11) * 0x1p-53; }

}  // namespace

double weigh(Candidates& candidates, double temperature) {
  const double largest = largest_of(candidates);
  double total = 0, weights[kBlock];
  for (size_t first = 0; first < candidates.size(); first += kBlock) {
    const std::span block = std::span(candidates).subspan(first, std::min(kBlock, candidates.size() - first));
    for (size_t i = 0; i < block.size(); ++i) weights[i] = (block[i].logit - largest) / temperature;
    exponentiate(std::span(weights).first(block.size()));
    for (size_t i = 0; i < block.size(); ++i) total += block[i].weight = weights[i];
  }
  return total;
}

void keep_top_k(Candidates& candidates, uint32_t count) {
  const size_t kept = std::clamp<size_t>(count, 1, candidates.size());
  sort_next(candidates, 0, kept, more_probable);
  candidates.resize(kept);
}

void keep_typical(Candidates& candidates, double mass) {
  const double total = weigh(candidates);
  // Surprise is a constant less the logit, so its distance from the expected surprise is that of the logits.
  double expected_logit = 0;
  for (const Candidate& candidate : candidates) expected_logit += candidate.weight / total * candidate.logit;
  const auto more_typical = [expected_logit](const Candidate& a, const Candidate& b) {
    const double from_a = std::abs(a.logit - expected_logit), from_b = std::abs(b.logit - expected_logit);
    return from_a != from_b ? from_a < from_b : more_probable(a, b);
  };
  keep_beginning(candidates, mass * total, more_typical);
}

void keep_top_p(Candidates& candidates, double mass) {
  const double wanted = mass * weigh(candidates);
  drop_tail(candidates, wanted);
  keep_beginning(candidates, wanted, more_probable);
}

void keep_min_p(Candidates& candidates, double ratio) {
  const double least = largest_of(candidates) + std::log(ratio);
  std::erase_if(candidates, [least](const Candidate& candidate) { return candidate.logit < least; });
}

Sampler::Sampler(SamplerOptions options, size_t vocabulary_size)
    : options_(validated(std::move(options), vocabulary_size)), vocabulary_size_(vocabulary_size), generator_(options_.seed) {}

uint32_t Sampler::sample(std::span<const float> logits, std::span<const uint32_t> history, SamplerRoom& room) {
  if (logits.size() != vocabulary_size_) {
    throw Error(ErrorCode::kBadInput, "logits", fmt::format("expected {} values, found {}", vocabulary_size_, logits.size()));
  }
  const std::span<const float> adjusted = adjust(logits, history, room);
  const float largest = largest_logit(adjusted);
  if (std::isinf(largest)) {
    throw Error(ErrorCode::kBadInput, "logits", "every token is at minus infinity", "ban fewer tokens");
  }
  if (options_.temperature == 0) return static_cast<uint32_t>(std::ranges::find(adjusted, largest) - adjusted.begin());
  collect_candidates(adjusted, room);
  narrow(room.candidates);
  return draw(room.candidates);
}

bool Sampler::has_penalties() const noexcept {
  return options_.repeat_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0;
}

std::span<const float> Sampler::adjust(std::span<const float> logits, std::span<const uint32_t> history, SamplerRoom& room) const {
  if (options_.logit_bias.empty() && !has_penalties()) return logits;
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

void Sampler::collect_candidates(std::span<const float> logits, SamplerRoom& room) const {
  constexpr float kLeastPossible = std::numeric_limits<float>::lowest();
  float least = kLeastPossible;
  if (options_.top_k > 0) least = std::max(least, logit_reached_by(logits, options_.top_k, room.block_maxima));
  room.candidates.clear();
  room.candidates.reserve(logits.size());
  for (size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] >= least) room.candidates.push_back({static_cast<uint32_t>(token), logits[token], 0});
  }
}

void Sampler::narrow(Candidates& candidates) const {
  if (options_.top_k > 0) keep_top_k(candidates, options_.top_k);
  if (options_.typical_p < 1) keep_typical(candidates, options_.typical_p);
  if (options_.top_p < 1) keep_top_p(candidates, options_.top_p);
  if (options_.min_p > 0) keep_min_p(candidates, options_.min_p);
}

uint32_t Sampler::draw(Candidates& candidates) {
  double remaining = uniform(generator_) * weigh(candidates, options_.temperature);
  uint32_t chosen = candidates.front().token;
  for (const Candidate& candidate : candidates) {
    if (candidate.weight == 0) continue;
    // Rounding may leave a remainder after the last candidate, which then is the one.
    chosen = candidate.token;
    remaining -= candidate.weight;
    if (remaining < 0) break;
  }
  return chosen;
}

}  // namespace tritllm
