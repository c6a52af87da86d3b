#include "sampling/candidates.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "sampling/logits.h"

namespace tritllm {
namespace {

// Candidates whose weights are computed at a time.
constexpr size_t kBlock = 256;

// Total orders: which of two equal candidates comes first must not depend on the library's sort.
bool more_probable(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; }

float largest_logit(const Candidates& candidates) { return std::ranges::max_element(candidates, {}, &Candidate::logit)->logit; }

// Sorts the first `count` of the candidates from `sorted` on, which come after those before it.
template <typename Before>
void sort_next(Candidates& candidates, size_t sorted, size_t count, Before before) {
  const auto begin = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
  const auto end = begin + static_cast<std::ptrdiff_t>(count);
  if (end != candidates.end()) std::nth_element(begin, end, candidates.end(), before);
  std::sort(begin, end, before);
}

// Keeps the shortest beginning, in the order `before`, that has `share` of the total weight. Sorts no more than it needs: a
// vocabulary has a hundred thousand tokens and the beginning usually some dozens.
template <typename Before>
void keep_beginning(Candidates& candidates, double share, double total, Before before) {
  const double wanted = share * total;
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

// Drops candidates below a logit at which the others have more weight than `wanted`, without sorting: weights are added up in steps
// of a sixteenth of a nat below the largest logit, and in a last one for the rest.
void drop_tail(Candidates& candidates, double wanted) {
  constexpr size_t kSteps = 512;
  constexpr float kStepsPerNat = 16.0f;
  const float largest = largest_logit(candidates);
  const auto step_of = [largest](const Candidate& candidate) {
    return static_cast<size_t>(std::min((largest - candidate.logit) * kStepsPerNat, static_cast<float>(kSteps - 1)));
  };
  double weights[kSteps] = {};
  for (const Candidate& candidate : candidates) weights[step_of(candidate)] += candidate.weight;
  // More than wanted by what sums in another order may differ.
  const double enough = wanted * (1 + 1e-9);
  size_t last = 0;
  for (double sum = weights[0]; sum < enough && last + 1 < kSteps; sum += weights[last]) ++last;
  std::erase_if(candidates, [&](const Candidate& candidate) { return step_of(candidate) > last; });
}

}  // namespace

double weigh(Candidates& candidates, double temperature) {
  const double largest = largest_logit(candidates);
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

void keep_typical(Candidates& candidates, double share) {
  const double total = weigh(candidates);
  // Surprise is a constant less the logit, so its distance from the expected surprise is that of the logits.
  double expected_logit = 0;
  for (const Candidate& candidate : candidates) expected_logit += candidate.weight / total * candidate.logit;
  const auto more_typical = [expected_logit](const Candidate& a, const Candidate& b) {
    const double from_a = std::abs(a.logit - expected_logit), from_b = std::abs(b.logit - expected_logit);
    return from_a != from_b ? from_a < from_b : more_probable(a, b);
  };
  keep_beginning(candidates, share, total, more_typical);
}

void keep_top_p(Candidates& candidates, double share) {
  const double total = weigh(candidates);
  drop_tail(candidates, share * total);
  keep_beginning(candidates, share, total, more_probable);
}

void keep_min_p(Candidates& candidates, double ratio) {
  const double least = largest_logit(candidates) + std::log(ratio);
  std::erase_if(candidates, [least](const Candidate& candidate) { return candidate.logit < least; });
}

}  // namespace tritllm
