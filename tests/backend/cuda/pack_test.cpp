// The device layout, tested on the host: unpack(pack(x)) is x for every depth and odd shapes, and the words hold the fields where
// the kernels' masks expect them.
#include "backend/cuda/pack.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "backend/cuda/layout.h"

namespace tritllm::cuda {
namespace {

struct RandomTile {
  std::vector<int8_t> codes;
  std::vector<uint8_t> scale_codes;

  RandomTile(int depth, int rows, int groups, unsigned seed) {
    std::mt19937 random(seed);
    codes.resize(static_cast<size_t>(rows * groups * kGroupColumns));
    scale_codes.resize(static_cast<size_t>(rows * groups));
    const auto levels = static_cast<unsigned>(2 * largest_code(depth) + 1);
    for (int8_t& code : codes) code = static_cast<int8_t>(static_cast<int>(random() % levels) - largest_code(depth));
    for (uint8_t& code : scale_codes) code = static_cast<uint8_t>(random() % 27);
  }
};

TEST(CudaPack, UnpackingGivesCodesAndScaleCodesBack) {
  for (int depth = 1; depth <= kMaxDepth; ++depth) {
    for (const int rows : {1, 7, 8, 9, 16}) {
      for (const int groups : {1, 3, 8, 9, 31, 32, 33, 40, 71}) {
        const RandomTile source(depth, rows, groups, static_cast<unsigned>(depth * 1000 + rows * 100 + groups));
        const size_t bytes = tile_bytes(depth, blocks_of(groups * kGroupColumns));
        std::vector<uint8_t> tile(bytes + 1, 0xa5);
        pack_tile(depth, {source.codes.data(), source.scale_codes.data(), rows, groups}, tile.data());
        EXPECT_EQ(tile[bytes], 0xa5) << "wrote beyond the tile";
        std::vector<int8_t> codes(source.codes.size());
        std::vector<uint8_t> scale_codes(source.scale_codes.size());
        unpack_tile(depth, tile.data(), rows, groups, codes.data(), scale_codes.data());
        EXPECT_EQ(codes, source.codes) << "depth " << depth << ", " << rows << " rows, " << groups << " groups";
        EXPECT_EQ(scale_codes, source.scale_codes) << "depth " << depth << ", " << rows << " rows, " << groups << " groups";
      }
    }
  }
}

TEST(CudaPack, WhatLiesBeyondTheMatrixIsEmpty) {
  for (int depth = 1; depth <= kMaxDepth; ++depth) {
    const RandomTile source(depth, 3, 5, 7);
    std::vector<uint8_t> tile(tile_bytes(depth, 1));
    pack_tile(depth, {source.codes.data(), source.scale_codes.data(), 3, 5}, tile.data());
    std::vector<int8_t> codes(kTileRows * kBlockColumns);
    std::vector<uint8_t> scale_codes(kTileRows * kBlockGroups);
    unpack_tile(depth, tile.data(), kTileRows, kBlockGroups, codes.data(), scale_codes.data());
    for (int row = 0; row < kTileRows; ++row) {
      for (int group = 0; group < kBlockGroups; ++group) {
        if (row < 3 && group < 5) continue;
        const auto index = static_cast<size_t>(row * kBlockGroups + group);
        EXPECT_EQ(scale_codes[index], kNoScale);
        for (size_t slot = 0; slot < kGroupColumns; ++slot) EXPECT_EQ(codes[index * kGroupColumns + slot], 0);
      }
    }
  }
}

TEST(CudaPack, DenseWeightsComeBackForAnyNumberOfColumns) {
  for (const int64_t columns : {1, 15, 16, 100, 128, 129, 576}) {
    std::mt19937 random(static_cast<unsigned>(columns));
    std::vector<uint16_t> halves(static_cast<size_t>(5 * columns));
    for (uint16_t& half : halves) half = static_cast<uint16_t>(random());
    std::vector<uint8_t> tile(tile_bytes(0, blocks_of(columns)));
    pack_dense_tile(halves.data(), 5, columns, tile.data());
    std::vector<uint16_t> back(halves.size());
    unpack_dense_tile(tile.data(), 5, columns, back.data());
    EXPECT_EQ(back, halves) << columns << " columns";
  }
}

// Every bit of a half-word's fields belongs to one slot.
TEST(CudaLayout, FieldsDoNotOverlap) {
  for (int depth = 0; depth <= kMaxDepth; ++depth) {
    std::set<int> used;
    for (int slot = 0; slot < kGroupColumns; ++slot) {
      const FieldPlace place = field_place(depth, slot);
      int bits = 0;
      for (int i = 0; i < place.count; ++i) {
        const FieldPiece& piece = place.pieces[static_cast<size_t>(i)];
        ASSERT_LT(piece.word, half_words(depth));
        for (int bit = 0; bit < piece.bits; ++bit) {
          EXPECT_TRUE(used.insert(piece.word * 16 + piece.word_bit + bit).second) << "depth " << depth << ", slot " << slot;
          ASSERT_LT(piece.word_bit + bit, 16);
        }
        bits += piece.bits;
      }
      EXPECT_GE(1 << bits, 2 * largest_code(depth) + 1);
    }
  }
}

TEST(CudaLayout, WordOffsetsCoverARunOnce) {
  for (const int count : {3, 4, 8, 10, 14, 32}) {
    std::set<int> used;
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int index = 0; index < count; ++index) used.insert(word_offset(count, index, lane));
    }
    EXPECT_EQ(used.size(), static_cast<size_t>(count * kLanes));
    EXPECT_EQ(*used.rbegin(), (count * kLanes - 1) * 4);
  }
}

TEST(CudaLayout, PlacesOfABlockAreAPermutation) {
  std::set<int> columns;
  for (int place = 0; place < kBlockColumns; ++place) columns.insert(column_of_place(place));
  EXPECT_EQ(columns.size(), static_cast<size_t>(kBlockColumns));
  EXPECT_EQ(*columns.begin(), 0);
  EXPECT_EQ(*columns.rbegin(), kBlockColumns - 1);
}

}  // namespace
}  // namespace tritllm::cuda
