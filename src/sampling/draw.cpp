#include "sampling/draw.h"

#include <algorithm>
#include <cmath>

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

void keep_top_p(Candidates& candidates, double mass, double total) {
  const double own = weigh(candidates), wanted = mass * (total > 0 ? total : own);
  drop_tail(candidates, wanted);
  keep_beginning(candidates, wanted, more_probable);
}

void keep_min_p(Candidates& candidates, double ratio) {
  const double least = largest_of(candidates) + std::log(ratio);
  std::erase_if(candidates, [least](const Candidate& candidate) { return candidate.logit < least; });
}

uint32_t TokenDraw::draw(std::span<const float> logits, const DrawSettings& settings) {
  const float largest = largest_logit(logits);
  if (std::isinf(largest)) {
    throw Error(ErrorCode::kBadInput, "logits", "every token is at minus infinity", "ban fewer tokens");
  }
  if (settings.temperature == 0) return static_cast<uint32_t>(std::ranges::find(logits, largest) - logits.begin());
  collect_candidates(logits, settings.top_k);
  return narrow_and_pick(settings, 0);
}

uint32_t TokenDraw::draw_from(std::span<const uint32_t> tokens, std::span<const float> logits, double total,
                              const DrawSettings& settings) {
  candidates_.clear();
  for (size_t i = 0; i < tokens.size(); ++i) candidates_.push_back({tokens[i], logits[i], 0});
  std::ranges::sort(candidates_, {}, &Candidate::token);
  return narrow_and_pick(settings, total);
}

uint32_t TokenDraw::narrow_and_pick(const DrawSettings& settings, double total) {
  if (settings.top_k > 0) keep_top_k(candidates_, settings.top_k);
  if (settings.typical_p < 1) keep_typical(candidates_, settings.typical_p);
  const bool some_of_row = settings.top_k == 0 && settings.typical_p >= 1;
  if (settings.top_p < 1) keep_top_p(candidates_, settings.top_p, some_of_row ? total : 0);
  if (settings.min_p > 0) keep_min_p(candidates_, settings.min_p);
  return pick(settings);
}

void TokenDraw::collect_candidates(std::span<const float> logits, uint32_t top_k) {
  float least = std::numeric_limits<float>::lowest();
  if (top_k > 0) least = std::max(least, logit_reached_by(logits, top_k, block_maxima_));
  candidates_.clear();
  candidates_.reserve(logits.size());
  for (size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] >= least) candidates_.push_back({static_cast<uint32_t>(token), logits[token], 0});
  }
}

uint32_t TokenDraw::pick(const DrawSettings& settings) {
  double remaining = settings.uniform * weigh(candidates_, settings.temperature);
  uint32_t chosen = candidates_.front().token;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight == 0) continue;
    // Rounding may leave a remainder at the end: then the last possible candidate is taken.
    chosen = candidate.token;
    remaining -= candidate.weight;
    if (remaining < 0) break;
  }
  return chosen;
}

}  // namespace tritllm
