// Owns the cases of sampling/logits.h, against loops over single logits, the C library and definitions in long double.
#include "sampling/logits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "core/error.h"
#include "sampler_reference.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows around the blocks' and the vectors' sizes; equal logits, impossible tokens, and rows of nothing else.
std::vector<std::vector<float>> rows() {
  std::mt19937_64 generator(3);
  std::vector<std::vector<float>> result = {{-0.0f}, {-kInfinity}, std::vector<float>(130, -kInfinity)};
  for (const size_t size : {1u, 3u, 4u, 5u, 63u, 64u, 65u, 128u, 700u, 3001u}) {
    for (const float spread : {0.01f, 3.0f, 1e37f}) {
      result.push_back(reference::gaussian_row(generator, size, spread));
      std::vector<float>& steps = result.emplace_back(reference::gaussian_row(generator, size, 4.0f));
      for (float& logit : steps) logit = generator() % 5 == 0 ? -kInfinity : std::round(logit);
    }
  }
  return result;
}

TEST(Logits, LargestIsThatOfALoop) {
  for (const std::vector<float>& row : rows()) EXPECT_EQ(largest_logit(row), *std::max_element(row.begin(), row.end()));
  EXPECT_EQ(largest_logit({}), -kInfinity);
}

TEST(Logits, NaNAndInfinityAreRefusedWhereverTheyStand) {
  for (const size_t size : {1u, 7u, 64u, 131u}) {
    for (size_t place = 0; place < size; ++place) {
      for (const float bad : {std::nanf(""), -std::nanf(""), kInfinity}) {
        std::vector<float> row(size, -1.0f);
        row[place] = bad;
        expect_error(ErrorCode::kBadInput, "expected a number for token " + std::to_string(place) + ", found",
                     [&] { largest_logit(row); });
      }
    }
  }
}

TEST(Logits, EnoughTokensReachTheBound) {
  std::vector<int32_t> room;
  for (const std::vector<float>& row : rows()) {
    for (const size_t count : {1u, 2u, 3u, 11u, 47u, 48u, 5000u}) {
      const float bound = logit_reached_by(row, count, room);
      const auto reached = static_cast<size_t>(std::count_if(row.begin(), row.end(), [=](float logit) { return logit >= bound; }));
      EXPECT_GE(reached, std::min(count, row.size())) << row.size() << " " << count;
      if (count == 1) {
        EXPECT_EQ(bound, *std::max_element(row.begin(), row.end()));
      }
    }
  }
}

TEST(Logits, FewMoreThanNeededReachTheBound) {
  std::mt19937_64 generator(4);
  std::vector<int32_t> room;
  for (int round = 0; round < 20; ++round) {
    const std::vector<float> row = reference::gaussian_row(generator, 128'000, 3.0f);
    const float bound = logit_reached_by(row, 40, room);
    EXPECT_LT(std::count_if(row.begin(), row.end(), [=](float logit) { return logit >= bound; }), 80);
  }
}

TEST(Logits, ExponentialsAreThoseOfTheDefinition) {
  std::vector<double> exponents;
  for (int i = 0; i <= 70'800; ++i) exponents.push_back(-0.01 * i);
  std::mt19937_64 generator(5);
  for (int i = 0; i < 10'000; ++i) exponents.push_back(-0x1p-53 * static_cast<double>(generator() >> 11));
  std::vector<double> found = exponents;
  exponentiate(found);
  for (size_t i = 0; i < found.size(); ++i) {
    const long double expected = std::exp(static_cast<long double>(exponents[i]));
    ASSERT_LE(std::abs(found[i] - expected), 0x1p-51L * expected) << exponents[i];
  }
}

TEST(Logits, ExponentialsAtTheEnds) {
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<double> values{0.0, -0.0, -708.0, -708.1, -745.0, -1e6, -1e300, -infinity};
  exponentiate(values);
  EXPECT_EQ(values[0], 1.0);
  EXPECT_EQ(values[1], 1.0);
  EXPECT_GT(values[2], 0.0);
  for (size_t i = 3; i < values.size(); ++i) EXPECT_EQ(values[i], 0.0) << i;
}

TEST(Logits, AnExponentialDoesNotDependOnItsPlace) {
  std::vector<double> together(257);
  for (size_t i = 0; i < together.size(); ++i) together[i] = -0.37 * static_cast<double>(i);
  std::vector<double> alone = together;
  exponentiate(together);
  for (size_t i = 0; i < alone.size(); ++i) {
    exponentiate(std::span(alone).subspan(i, 1));
    EXPECT_EQ(std::bit_cast<uint64_t>(alone[i]), std::bit_cast<uint64_t>(together[i])) << i;
  }
}

long double expected_log_probability(const std::vector<float>& logits, size_t token) {
  long double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<long double>(logit));
  return logits[token] - std::log(sum);
}

TEST(LogProbabilities, AreTheLogarithmsOfSoftmax) {
  std::mt19937_64 generator(51);
  for (const size_t size : {1u, 2u, 17u, 3000u}) {
    const std::vector<float> logits = reference::gaussian_row(generator, size, 5);
    for (uint32_t token = 0; token < size; token += 1 + static_cast<uint32_t>(size / 20)) {
      const auto expected = static_cast<double>(expected_log_probability(logits, token));
      EXPECT_NEAR(log_probability(logits, token), expected, 2e-7 * (1 + std::abs(expected)));
    }
  }
}

TEST(LogProbabilities, ManySmallTermsAreNotLost) {
  // A float sum would stop growing at 2^24 equal terms, and a sum that starts with the large one at far fewer small ones.
  std::vector<float> logits(1 << 20, -14);
  logits[0] = 0;
  EXPECT_NEAR(log_sum_exp(logits), std::log1p(((1 << 20) - 1) * std::exp(-14.0)), 1e-9);
}

TEST(LogProbabilities, LargeLogitsDoNotOverflow) {
  const std::vector<float> logits = {10000, 10000, -10000};
  EXPECT_FLOAT_EQ(log_probability(logits, 0), -std::log(2.0f));
  EXPECT_FLOAT_EQ(log_probability(logits, 2), -20000 - std::log(2.0f));
}

TEST(LogProbabilities, ImpossibleTokensHaveMinusInfinity) {
  const std::vector<float> logits = {-kInfinity, 2, 2};
  EXPECT_EQ(log_probability(logits, 0), -kInfinity);
  EXPECT_FLOAT_EQ(log_probability(logits, 1), -std::log(2.0f));
  EXPECT_EQ(top_log_probabilities(logits, 3)[2], (TokenLogProbability{0, -kInfinity}));
}

TEST(LogProbabilities, TopIsSortedWithTiesByToken) {
  const std::vector<float> logits = {1, 3, 2, 3, 1, 3};
  std::vector<uint32_t> tokens;
  for (const TokenLogProbability& entry : top_log_probabilities(logits, 5)) {
    tokens.push_back(entry.token);
    EXPECT_EQ(entry.log_probability, log_probability(logits, entry.token));
  }
  EXPECT_EQ(tokens, (std::vector<uint32_t>{1, 3, 5, 2, 0}));
}

TEST(LogProbabilities, TopIsAsLongAsAskedOrAsTheVocabulary) {
  const std::vector<float> logits = {1, 2, 3};
  EXPECT_TRUE(top_log_probabilities(logits, 0).empty());
  EXPECT_EQ(top_log_probabilities(logits, 2).size(), 2u);
  EXPECT_EQ(top_log_probabilities(logits, std::numeric_limits<size_t>::max()).size(), 3u);
}

TEST(LogProbabilities, RefuseRowsWithoutMeaning) {
  expect_error(ErrorCode::kBadInput, "logits: expected a number for token 1, found nan", [] {
    log_sum_exp(std::vector<float>{1, std::nanf("")});
  });
  expect_error(ErrorCode::kBadInput, "logits: expected a number for token 0, found inf", [] {
    top_log_probabilities(std::vector<float>{kInfinity, 1}, 1);
  });
  expect_error(ErrorCode::kBadInput, "no token has a finite logit", [] { log_sum_exp(std::vector<float>(3, -kInfinity)); });
  expect_error(ErrorCode::kBadInput, "no token has a finite logit", [] { log_sum_exp({}); });
  expect_error(ErrorCode::kBadInput, "token: expected one below the vocabulary's size of 2, found 2", [] {
    log_probability(std::vector<float>{1, 2}, 2);
  });
}

}  // namespace
}  // namespace tritllm
