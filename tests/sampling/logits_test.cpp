// Owns the cases of sampling/logits.h, against loops over single logits and the C library's exponential.
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

TEST(Logits, WhatIsNoNumberIsRefusedWhereverItStands) {
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

}  // namespace
}  // namespace tritllm
