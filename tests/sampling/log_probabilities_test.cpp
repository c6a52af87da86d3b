// Owns the cases of sampling/log_probabilities.h, against the definition in long double.
#include "sampling/log_probabilities.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "sampler_reference.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

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
