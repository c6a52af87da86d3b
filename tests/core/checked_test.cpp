// Owns the cases of core/checked.h: what fits 64 bits is exact, what does not is nothing.
#include "core/checked.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace tritllm {
namespace {

constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();

TEST(Checked, MultiplyIsExactUpToTheLastValueThatFits) {
  EXPECT_EQ(checked_multiply(6, 7), 42u);
  EXPECT_EQ(checked_multiply(kMost, 1), kMost);
  EXPECT_EQ(checked_multiply(kMost, 0), 0u);
  EXPECT_EQ(checked_multiply(0xffffffffu, 0x100000001u), kMost);
  EXPECT_EQ(checked_multiply(uint64_t{1} << 32, uint64_t{1} << 32), std::nullopt);
  EXPECT_EQ(checked_multiply(kMost, 2), std::nullopt);
}

TEST(Checked, AddIsExactUpToTheLastValueThatFits) {
  EXPECT_EQ(checked_add(kMost - 5, 5), kMost);
  EXPECT_EQ(checked_add(kMost - 5, 6), std::nullopt);
  EXPECT_EQ(checked_add(kMost, kMost), std::nullopt);
}

TEST(Checked, ProductOfAShape) {
  EXPECT_EQ(checked_product(std::vector<uint64_t>{}), 1u);
  EXPECT_EQ(checked_product(std::vector<uint64_t>{49152, 576}), 28311552u);
  EXPECT_EQ(checked_product(std::vector<uint64_t>{uint64_t{1} << 32, uint64_t{1} << 31, 2}), std::nullopt);
}

TEST(Checked, ProductWithAZeroDimensionIsZeroWhateverTheOrder) {
  EXPECT_EQ(checked_product(std::vector<uint64_t>{kMost, kMost, 0}), 0u);
  EXPECT_EQ(checked_product(std::vector<uint64_t>{0, kMost, kMost}), 0u);
}

}  // namespace
}  // namespace tritllm
