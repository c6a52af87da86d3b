// Owns the cases of sampling/recent_tokens.h: the counts of every window, against counting anew.
#include "sampling/recent_tokens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "sampling/sampler_options.h"

namespace tritllm {
namespace {

std::vector<uint32_t> count_last(const std::vector<uint32_t>& history, size_t vocabulary, uint32_t window) {
  std::vector<uint32_t> counts(vocabulary);
  const size_t length = std::min<size_t>(window, history.size());
  for (size_t i = history.size() - length; i < history.size(); ++i) ++counts[history[i]];
  return counts;
}

TEST(RecentTokens, CountsTheWindowOnly) {
  constexpr size_t kVocabulary = 7;
  for (const uint32_t window : {0u, 1u, 2u, 5u, 64u, kWholeContext}) {
    std::mt19937_64 generator(window);
    RecentTokens recent(kVocabulary, window);
    std::vector<uint32_t> history;
    for (int step = 0; step < 300; ++step) {
      history.push_back(static_cast<uint32_t>(generator() % kVocabulary));
      recent.add(history.back());
      ASSERT_TRUE(std::ranges::equal(recent.counts(), count_last(history, kVocabulary, window))) << window << " " << step;
    }
  }
}

TEST(RecentTokens, AHugeWindowCostsNothingUpFront) {
  RecentTokens recent(3, kWholeContext - 1);
  recent.add(2);
  EXPECT_EQ(recent.counts()[2], 1u);
}

}  // namespace
}  // namespace tritllm
