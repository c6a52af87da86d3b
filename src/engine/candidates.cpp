#include "engine/candidates.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace tritllm {
namespace {

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

}  // namespace

double weigh(Candidates& candidates, double temperature) {
  const double largest = largest_logit(candidates);
  double total = 0;
  for (Candidate& candidate : candidates) {
    candidate.weight = std::exp((candidate.logit - largest) / temperature);
    total += candidate.weight;
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
  keep_beginning(candidates, share, total, more_probable);
}

void keep_min_p(Candidates& candidates, double ratio) {
  const double least = largest_logit(candidates) + std::log(ratio);
  std::erase_if(candidates, [least](const Candidate& candidate) { return candidate.logit < least; });
}

}  // namespace tritllm
