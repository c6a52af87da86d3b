// Rows as groups: padding and stripping against a definition that goes weight by weight, and the numbers of geometry.h.
#include "codec/grouping.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace tritllm::codec {
namespace {

constexpr uint64_t kNone = ~uint64_t{0};

// For each slot of the padded groups the index of its weight in the matrix, or kNone; five groups more than there are.
std::vector<uint64_t> slots_of(const MatrixShape& shape) {
  std::vector<uint64_t> slots;
  for (uint64_t row = 0; row < shape.rows; ++row) {
    for (uint64_t slot = 0; slot < shape.groups_per_row() * 16; ++slot)
      slots.push_back(slot < shape.columns ? row * shape.columns + slot : kNone);
  }
  slots.resize(slots.size() + 5 * 16, kNone);
  return slots;
}

class Grouping : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Columns, Grouping, testing::Values(1, 15, 16, 17, 80, 81));

TEST_P(Grouping, PadsAndStripsFromEveryGroupOn) {
  const MatrixShape shape{6, GetParam()};
  const std::vector<uint64_t> slots = slots_of(shape);
  std::vector<float> matrix(shape.weights());
  std::iota(matrix.begin(), matrix.end(), 1.0f);
  for (uint64_t first = 0; first <= shape.groups(); ++first) {
    for (uint64_t count = 1; first + count <= shape.groups() + 5; ++count) {
      SCOPED_TRACE(testing::Message() << count << " groups from " << first);
      std::vector<float> expected;
      std::vector<uint64_t> held;
      for (uint64_t slot = first * 16; slot < (first + count) * 16; ++slot) {
        expected.push_back(slots[slot] == kNone ? 0.0f : matrix[slots[slot]]);
        if (slots[slot] != kNone) held.push_back(slots[slot]);
      }
      const WeightRange range = weights_in_groups(shape, first, count);
      ASSERT_EQ(range.count, held.size());
      ASSERT_TRUE(held.empty() || range.first == held.front());

      std::vector<float> padded(count * 16, -1.0f);
      pad_groups(shape, first, count, matrix.data() + range.first, padded.data());
      ASSERT_EQ(padded, expected);
      std::vector<float> stripped(range.count + 1, -1.0f);
      strip_padding(shape, first, count, padded.data(), stripped.data());
      ASSERT_EQ(stripped.back(), -1.0f);
      stripped.pop_back();
      ASSERT_EQ(stripped, std::vector<float>(matrix.begin() + static_cast<ptrdiff_t>(range.first),
                                             matrix.begin() + static_cast<ptrdiff_t>(range.first + range.count)));
    }
  }
}

TEST(Geometry, CountsGroupsLinesAndBytes) {
  const MatrixShape shape{33, 81};
  EXPECT_EQ(shape.weights(), 2673u);
  EXPECT_EQ(shape.groups_per_row(), 6u);
  EXPECT_EQ(shape.groups(), 198u);
  EXPECT_EQ(shape.lines(), 40u);
  EXPECT_EQ(shape.trit_bytes(3), 3u * 40 * 16);
  EXPECT_EQ(shape.scale_bytes(), 120u);
  EXPECT_EQ(shape.stored_bytes(3), 1920u + 120 + 108);
  EXPECT_EQ(largest_code(1), 1);
  EXPECT_EQ(largest_code(2), 4);
  EXPECT_EQ(largest_code(3), 13);
  EXPECT_EQ(largest_code(4), 40);
  // The sizes that design and documents promise.
  const double expected[] = {1.88, 3.47, 5.05, 6.64};
  for (int depth = 1; depth <= 4; ++depth) EXPECT_NEAR(nominal_bits_per_weight(depth), expected[depth - 1], 0.005);
}

}  // namespace
}  // namespace tritllm::codec
