// What every backend must do when it chooses tokens: what the specification does (sampling/draw.h).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "backend/device_under_test.h"
#include "sampling/draw.h"

namespace tritllm {
namespace {

class ChoiceConformance : public DeviceTest {};

INSTANTIATE_TEST_SUITE_P(Devices, ChoiceConformance, testing::ValuesIn(device_kinds()), device_name);

TEST_P(ChoiceConformance, ChoosesAsTheSpecificationDoes) {
  constexpr size_t kVocabulary = 1003, kRows = 40;
  std::vector<float> logits = random_values(kRows * kVocabulary, 1);
  for (float& logit : logits) logit *= 4.0f;
  std::vector<DrawSettings> draws(kRows);
  std::mt19937_64 random(2);
  for (size_t row = 0; row < kRows; ++row) {
    DrawSettings& draw = draws[row];
    draw.temperature = row % 4 == 0 ? 0.0f : 0.5f + static_cast<float>(row % 3);
    if (row % 3 == 1) draw.top_k = 1 + static_cast<uint32_t>(row);
    if (row % 5 == 2) draw.top_p = 0.8f;
    if (row % 7 == 3) draw.min_p = 0.05f;
    if (row % 11 == 5) draw.typical_p = 0.9f;
    draw.uniform = std::uniform_real_distribution<double>(0, 1)(random);
  }
  logits[kVocabulary * 8 + 500] = logits[kVocabulary * 8 + 900] = 100.0f;  // greedy: of equal ones the lowest token
  logits[kVocabulary * 9 + 3] = NAN;
  std::fill_n(logits.begin() + kVocabulary * 10, kVocabulary, -std::numeric_limits<float>::infinity());
  logits[kVocabulary * 12 + 7] = std::numeric_limits<float>::infinity();
  std::fill_n(logits.begin() + kVocabulary * 13, kVocabulary - 1, -std::numeric_limits<float>::infinity());

  const auto rows = device.rows(kVocabulary, logits);
  const auto chosen = device->make_chosen_tokens(kRows);
  device->choose(first_rows(rows, kRows), draws, *chosen);
  std::vector<uint32_t> tokens(kRows);
  device->tokens(*chosen, tokens);
  TokenDraw specification;
  for (size_t row = 0; row < kRows; ++row) {
    if (row == 9 || row == 10 || row == 12) {
      EXPECT_EQ(tokens[row], kNoToken) << row;
      continue;
    }
    EXPECT_EQ(tokens[row], specification.draw(std::span(logits).subspan(row * kVocabulary, kVocabulary), draws[row])) << row;
  }
  EXPECT_EQ(tokens[8], 500u);
  EXPECT_EQ(tokens[13], kVocabulary - 1);

  // The next step begins with them.
  const std::vector<float> table = random_values(kVocabulary * 8, 3);
  const auto matrix = device.matrix(table, 8);
  TestStep inputs = TestStep::of_one(3);
  inputs.tokens = {kChosenToken | 8, 5, kChosenToken | 13};
  inputs.chosen = chosen.get();
  const auto embedded = device.empty(3, 8);
  device->embed(*matrix, *inputs.begin(device), 1.0f, first_rows(embedded, 3));
  const std::vector<float> found = device.values(embedded);
  for (size_t i = 0; i < 24; ++i) ASSERT_EQ(found[i], table[(i < 8 ? 500u : i < 16 ? 5u : kVocabulary - 1) * 8 + i % 8]);
}

// A vocabulary of real size: peaked and flat rows, settings that keep one token, many, and all.
TEST_P(ChoiceConformance, ChoosesAmongManyTokensAsTheSpecificationDoes) {
  constexpr size_t kVocabulary = 70001, kRows = 72;
  std::vector<float> logits = random_values(kRows * kVocabulary, 5);
  std::vector<DrawSettings> draws(kRows);
  std::mt19937_64 random(6);
  for (size_t row = 0; row < kRows; ++row) {
    const float spread = row % 4 == 0 ? 0.1f : row % 4 == 1 ? 3.0f : row % 4 == 2 ? 12.0f : 60.0f;
    for (size_t token = 0; token < kVocabulary; ++token) logits[row * kVocabulary + token] *= spread;
    if (row % 8 == 5) std::fill_n(logits.begin() + static_cast<ptrdiff_t>(row * kVocabulary + 7), 600, 9.5f);  // many equal ones
    DrawSettings& draw = draws[row];
    draw.temperature = row % 9 == 8 ? 0.0f : 0.7f;
    switch (row % 6) {
      case 0: draw.top_p = 0.95f; break;
      case 1: draw.top_k = 40, draw.top_p = 0.9f; break;
      case 2: draw.min_p = 0.02f; break;
      case 3: draw.top_k = row % 4 == 3 ? 5000 : 1; break;
      case 4: draw.top_p = row % 4 == 2 ? 0.99999f : 0.3f, draw.min_p = 0.1f; break;
      default: break;  // temperature alone
    }
    draw.uniform = row < 12 ? 0.0 : row < 24 ? std::nextafter(1.0, 0.0) : std::uniform_real_distribution<double>(0, 1)(random);
  }
  const auto rows = device.rows(kVocabulary, logits);
  const auto chosen = device->make_chosen_tokens(kRows);
  TokenDraw specification;
  for (int run = 0; run < 2; ++run) {  // a second one finds what the first one left behind
    device->choose(first_rows(rows, kRows), draws, *chosen);
    std::vector<uint32_t> tokens(kRows);
    device->tokens(*chosen, tokens);
    for (size_t row = 0; row < kRows; ++row) {
      EXPECT_EQ(tokens[row], specification.draw(std::span(logits).subspan(row * kVocabulary, kVocabulary), draws[row])) << row;
    }
  }
}

}  // namespace
}  // namespace tritllm
