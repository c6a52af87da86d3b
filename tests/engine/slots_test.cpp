// Which slot a prompt gets and how much of it is there already, against a model in the test that remembers everything.
#include "engine/slots.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace tritllm {
namespace {

using Tokens = std::vector<TokenId>;

void fill(Slots& slots, uint32_t slot, const Tokens& tokens) {
  for (const TokenId token : tokens) slots.append(slot, token);
}

TEST(Slots, GivesEachOnceAndThenNone) {
  Slots slots(3);
  EXPECT_EQ(slots.count(), 3u);
  std::vector<bool> seen(3, false);
  for (int i = 0; i < 3; ++i) {
    const auto claim = slots.claim(Tokens{1, 2});
    ASSERT_TRUE(claim);
    EXPECT_EQ(claim->reused, 0u);
    EXPECT_FALSE(seen[claim->slot]);
    seen[claim->slot] = true;
  }
  EXPECT_FALSE(slots.claim(Tokens{1, 2}));
  slots.release(1);
  EXPECT_EQ(slots.claim(Tokens{1, 2})->slot, 1u);
}

TEST(Slots, OneTokenOfThePromptIsAlwaysLeft) {
  Slots slots(1);
  fill(slots, slots.claim(Tokens{1})->slot, {1, 2, 3});
  slots.release(0);
  const auto claim = slots.claim(Tokens{1, 2, 3});
  EXPECT_EQ(claim->reused, 2u);
  EXPECT_EQ(slots.length(0), 2u);
}

TEST(Slots, WhatDoesNotFitIsForgotten) {
  Slots slots(1);
  fill(slots, slots.claim(Tokens{1})->slot, {1, 2, 3, 4});
  slots.release(0);
  EXPECT_EQ(slots.claim(Tokens{1, 2, 9, 4, 5})->reused, 2u);
  slots.release(0);
  EXPECT_EQ(slots.claim(Tokens{1, 2, 3, 4, 5})->reused, 2u) << "3 and 4 were overwritten by the request before";
}

TEST(Slots, OfEqualOnesTheOneUnusedForLongest) {
  Slots slots(3);
  for (int i = 0; i < 3; ++i) slots.claim(Tokens{1});
  for (const uint32_t slot : {1u, 2u, 0u}) slots.release(slot);
  for (const uint32_t slot : {1u, 2u, 0u}) EXPECT_EQ(slots.claim(Tokens{1})->slot, slot);
}

TEST(Slots, ALongerBeginningWinsOverAge) {
  Slots slots(2);
  const uint32_t first = slots.claim(Tokens{1})->slot, second = slots.claim(Tokens{1})->slot;
  fill(slots, first, {1, 2, 3});
  fill(slots, second, {1, 2, 7, 8});
  slots.release(second);
  slots.release(first);  // used later, so it would be the last choice
  const auto claim = slots.claim(Tokens{1, 2, 3, 4});
  EXPECT_EQ(claim->slot, first);
  EXPECT_EQ(claim->reused, 3u);
}

// The longest common beginning by definition, at random.
TEST(Slots, AgreesWithTheDefinition) {
  std::mt19937_64 random(5);
  constexpr uint32_t kSlots = 4;
  Slots slots(kSlots);
  std::vector<Tokens> held(kSlots);
  std::vector<bool> taken(kSlots, false);
  for (int round = 0; round < 5000; ++round) {
    if (random() % 2 == 0) {
      Tokens prompt(1 + random() % 6);
      for (TokenId& token : prompt) token = static_cast<TokenId>(random() % 2);
      const auto claim = slots.claim(prompt);
      size_t best = 0;
      bool any = false;
      for (uint32_t slot = 0; slot < kSlots; ++slot) {
        if (taken[slot]) continue;
        any = true;
        size_t same = 0;
        while (same < held[slot].size() && same + 1 < prompt.size() && held[slot][same] == prompt[same]) ++same;
        best = std::max(best, same);
      }
      ASSERT_EQ(claim.has_value(), any);
      if (!claim) continue;
      ASSERT_FALSE(taken[claim->slot]);
      ASSERT_EQ(claim->reused, best);
      ASSERT_EQ(Tokens(held[claim->slot].begin(), held[claim->slot].begin() + static_cast<long>(best)),
                Tokens(prompt.begin(), prompt.begin() + static_cast<long>(best)));
      taken[claim->slot] = true;
      held[claim->slot].resize(best);
      for (size_t i = best; i < prompt.size(); ++i) {
        slots.append(claim->slot, prompt[i]);
        held[claim->slot].push_back(prompt[i]);
      }
      ASSERT_EQ(slots.length(claim->slot), prompt.size());
    } else {
      const auto slot = static_cast<uint32_t>(random() % kSlots);
      if (!taken[slot]) continue;
      taken[slot] = false;
      slots.release(slot);
    }
  }
}

}  // namespace
}  // namespace tritllm
