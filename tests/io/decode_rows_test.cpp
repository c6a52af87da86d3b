// Rows and columns of a packed matrix, decoded by themselves, against the matrix decoded as a whole.
#include <gtest/gtest.h>

#include <random>

#include "codec/trits.h"
#include "io/packed_checkpoint.h"

namespace tritllm {
namespace {

struct Stored {
  TernaryMatrix matrix;
  std::vector<uint8_t> trits, scales;
  std::vector<int8_t> codes;         // [rows][groups][16]
  std::vector<uint8_t> scale_codes;  // [rows][groups]
};

Stored random_matrix(int depth, uint64_t rows, uint64_t columns) {
  std::mt19937_64 random(rows * 1000 + columns);
  Stored stored;
  const codec::MatrixShape shape{rows, columns};
  stored.codes.resize(shape.lines() * codec::kLineGroups * codec::kGroupSize);
  stored.scale_codes.resize(shape.lines() * codec::kLineGroups);
  const auto largest = static_cast<uint64_t>(codec::largest_code(depth));
  for (size_t i = 0; i < shape.groups() * codec::kGroupSize; ++i) {
    stored.codes[i] = static_cast<int8_t>(static_cast<int>(random() % (2 * largest + 1)) - static_cast<int>(largest));
  }
  for (size_t i = 0; i < shape.groups(); ++i) stored.scale_codes[i] = static_cast<uint8_t>(random() % codec::kCodebookSize);
  stored.trits.resize(shape.trit_bytes(depth));
  stored.scales.resize(shape.scale_bytes());
  std::vector<uint8_t*> planes;
  for (int plane = 0; plane < depth; ++plane) {
    planes.push_back(stored.trits.data() + static_cast<size_t>(plane) * shape.lines() * codec::kGroupSize);
  }
  codec::pack_lines(shape.lines(), depth, stored.codes.data(), stored.scale_codes.data(), planes, stored.scales.data());
  stored.matrix = {shape, depth, stored.trits, stored.scales, {codec::Codebook{}}};
  return stored;
}

TEST(DecodeRows, AnyRowsAndColumnsAreThoseOfTheWholeMatrix) {
  const std::pair<uint64_t, uint64_t> shapes[] = {{1, 1}, {7, 17}, {5, 80}, {6, 81}, {3, 250}, {11, 96}, {2, 161}};
  for (const auto& [rows, columns] : shapes) {
    for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
      const Stored stored = random_matrix(depth, rows, columns);
      const size_t per_row = stored.matrix.shape.groups_per_row();
      for (size_t first_row = 0; first_row < rows; ++first_row) {
        for (size_t count = 1; first_row + count <= rows; ++count) {
          for (size_t first_group = 0; first_group < per_row; ++first_group) {
            for (size_t groups = 1; first_group + groups <= per_row; ++groups) {
              SCOPED_TRACE(testing::Message() << rows << " x " << columns << " at depth " << depth << ", rows " << first_row
                                              << " + " << count << ", groups " << first_group << " + " << groups);
              // One value more than asked for, which must stay as it is.
              std::vector<int8_t> codes(count * groups * codec::kGroupSize + 1, 99);
              std::vector<uint8_t> scale_codes(count * groups + 1, 99);
              decode_rows(stored.matrix, first_row, count, first_group, groups, codes.data(), scale_codes.data());
              for (size_t row = 0; row < count; ++row) {
                const size_t from = (first_row + row) * per_row + first_group, to = row * groups;
                ASSERT_TRUE(std::equal(stored.scale_codes.begin() + static_cast<ptrdiff_t>(from),
                                       stored.scale_codes.begin() + static_cast<ptrdiff_t>(from + groups),
                                       scale_codes.begin() + static_cast<ptrdiff_t>(to)));
                ASSERT_TRUE(std::equal(stored.codes.begin() + static_cast<ptrdiff_t>(from * codec::kGroupSize),
                                       stored.codes.begin() + static_cast<ptrdiff_t>((from + groups) * codec::kGroupSize),
                                       codes.begin() + static_cast<ptrdiff_t>(to * codec::kGroupSize)));
              }
              ASSERT_EQ(codes.back(), 99);
              ASSERT_EQ(scale_codes.back(), 99);
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tritllm
