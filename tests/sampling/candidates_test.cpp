// Owns the cases of the steps in sampling/sampler.h that narrow the candidates: which tokens each step keeps, against its
// definition.
#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "sampler_reference.h"

namespace tritllm {
namespace {

Candidates candidates_of(const std::vector<float>& logits) {
  Candidates candidates;
  for (uint32_t token = 0; token < logits.size(); ++token) candidates.push_back({token, logits[token], 0});
  return candidates;
}

std::vector<reference::Entry> entries_of(const std::vector<float>& logits) {
  std::vector<reference::Entry> entries;
  for (uint32_t token = 0; token < logits.size(); ++token) entries.push_back({token, logits[token]});
  return entries;
}

template <typename List>
std::set<uint32_t> tokens_of(const List& list) {
  std::set<uint32_t> tokens;
  for (const auto& entry : list) tokens.insert(entry.token);
  return tokens;
}

// Peaked and flat rows, short ones and ones beyond the first steps of the partial sort; spreads over more than the steps in which
// the improbable are dropped.
std::vector<std::vector<float>> rows() {
  std::mt19937_64 generator(11);
  std::vector<std::vector<float>> result = {{0.5f}, {1, 2}, {-3, -3, -3, -3}};
  for (const size_t size : {5u, 63u, 64u, 65u, 191u, 193u, 2000u}) {
    for (const float spread : {0.01f, 1.0f, 6.0f, 50.0f}) result.push_back(reference::gaussian_row(generator, size, spread));
  }
  return result;
}

TEST(Candidates, TopKKeepsTheLargestLogits) {
  for (const std::vector<float>& row : rows()) {
    for (const uint32_t count : {1u, 2u, 40u, 64u, 100u, 4'000'000'000u}) {
      Candidates candidates = candidates_of(row);
      keep_top_k(candidates, count);
      EXPECT_EQ(tokens_of(candidates), tokens_of(reference::top_k(entries_of(row), count))) << row.size() << " " << count;
    }
  }
}

TEST(Candidates, TopPKeepsTheFewestMostProbable) {
  for (const std::vector<float>& row : rows()) {
    for (const double mass : {0.0, 0.1, 0.5, 0.9, 0.999}) {
      Candidates candidates = candidates_of(row);
      keep_top_p(candidates, mass);
      EXPECT_EQ(tokens_of(candidates), tokens_of(reference::top_p(entries_of(row), mass))) << row.size() << " " << mass;
    }
  }
}

TEST(Candidates, TypicalKeepsThoseOfExpectedSurprise) {
  for (const std::vector<float>& row : rows()) {
    for (const double mass : {0.0, 0.1, 0.5, 0.9, 0.999}) {
      Candidates candidates = candidates_of(row);
      keep_typical(candidates, mass);
      EXPECT_EQ(tokens_of(candidates), tokens_of(reference::typical_p(entries_of(row), mass))) << row.size() << " " << mass;
    }
  }
}

TEST(Candidates, TypicalMayDropTheMostProbable) {
  // One token with 0.4 and sixty with 0.01: the entropy is that of the many, and the peak is not a typical outcome.
  std::vector<float> row(61, std::log(0.01f));
  row[7] = std::log(0.4f);
  Candidates candidates = candidates_of(row);
  keep_typical(candidates, 0.3);
  EXPECT_FALSE(tokens_of(candidates).contains(7));
}

TEST(Candidates, MinPKeepsAllNearTheLargest) {
  for (const std::vector<float>& row : rows()) {
    for (const double ratio : {0.001, 0.05, 0.5, 1.0}) {
      Candidates candidates = candidates_of(row);
      keep_min_p(candidates, ratio);
      EXPECT_EQ(tokens_of(candidates), tokens_of(reference::min_p(entries_of(row), ratio))) << row.size() << " " << ratio;
    }
  }
}

TEST(Candidates, EqualLogitsAreKeptFromTheLowestToken) {
  const std::vector<float> equal(300, 1.25f);
  const std::vector<std::function<void(Candidates&)>> steps = {
      [](Candidates& list) { keep_top_k(list, 75); },
      [](Candidates& list) { keep_top_p(list, 0.25); },
      [](Candidates& list) { keep_typical(list, 0.25); },
  };
  for (const auto& step : steps) {
    Candidates candidates = candidates_of(equal);
    step(candidates);
    ASSERT_EQ(candidates.size(), 75u);
    for (uint32_t token = 0; token < 75; ++token) EXPECT_EQ(candidates[token].token, token);
  }
}

TEST(Candidates, ResultsAreInOneOrder) {
  std::mt19937_64 generator(12);
  const std::vector<float> row = reference::gaussian_row(generator, 500, 1);
  for (const auto& step : {std::function<void(Candidates&)>([](Candidates& list) { keep_top_k(list, 130); }),
                           std::function<void(Candidates&)>([](Candidates& list) { keep_top_p(list, 0.8); })}) {
    Candidates candidates = candidates_of(row);
    step(candidates);
    ASSERT_GT(candidates.size(), 64u);
    for (size_t i = 1; i < candidates.size(); ++i) EXPECT_GT(candidates[i - 1].logit, candidates[i].logit);
  }
}

TEST(Candidates, WeightsAreRelativeToTheLargest) {
  Candidates candidates = candidates_of({1000, 1000 - std::log(2.0f), -3e38f});
  EXPECT_NEAR(weigh(candidates), 1.5, 1e-4);
  EXPECT_EQ(candidates[0].weight, 1);
  EXPECT_EQ(candidates[2].weight, 0);
  EXPECT_NEAR(weigh(candidates, 0.5), 1.25, 1e-4);
}

// What a device sends that has narrowed the row: the likely tokens, in any order, and the sum over the whole row.
TEST(Candidates, DrawsFromSomeTokensAsFromTheWholeRow) {
  std::mt19937_64 generator(12);
  TokenDraw draw;
  size_t narrower = 0;
  for (const std::vector<float>& row : rows()) {
    for (DrawSettings settings :
         {DrawSettings{.top_k = 7}, DrawSettings{.top_p = 0.6f}, DrawSettings{.top_p = 0.9f, .min_p = 0.01f},
          DrawSettings{.min_p = 0.3f}, DrawSettings{.top_k = 30, .typical_p = 0.8f, .top_p = 0.7f}}) {
      Candidates kept = candidates_of(row);
      if (settings.top_k > 0) {
        keep_top_k(kept, settings.top_k);
      } else if (settings.top_p < 1) {
        keep_top_p(kept, settings.top_p);
      } else {
        keep_min_p(kept, settings.min_p);
      }
      const float least = std::ranges::min_element(kept, {}, &Candidate::logit)->logit - 0.06f;
      std::vector<uint32_t> tokens;
      const double largest = std::ranges::max(row);
      double total = 0;
      for (uint32_t token = 0; token < row.size(); ++token) {
        total += std::exp(row[token] - largest);
        if (row[token] >= least) tokens.push_back(token);
      }
      if (tokens.size() < row.size()) ++narrower;
      std::ranges::shuffle(tokens, generator);
      std::vector<float> logits;
      for (const uint32_t token : tokens) logits.push_back(row[token]);
      settings.temperature = 0.8f;
      for (int i = 0; i < 20; ++i) {
        settings.uniform = std::uniform_real_distribution<double>(0, 1)(generator);
        EXPECT_EQ(draw.draw_from(tokens, logits, total, settings), draw.draw(row, settings)) << row.size();
      }
    }
  }
  EXPECT_GT(narrower, 30u);
}

}  // namespace
}  // namespace tritllm
