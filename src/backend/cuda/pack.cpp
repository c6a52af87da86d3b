#include "backend/cuda/pack.h"

#include <cstring>

#include "backend/cuda/layout.h"

namespace tritllm::cuda {
namespace {

// Places of all slots of a depth, computed once by the compiler.
template <int kDepth>
constexpr std::array<FieldPlace, kGroupColumns> kPlaces = [] {
  std::array<FieldPlace, kGroupColumns> places;
  for (int slot = 0; slot < kGroupColumns; ++slot) places[static_cast<size_t>(slot)] = field_place(kDepth, slot);
  return places;
}();

// A place in a tile: the lane's word run of one block, half of its words, and row.
struct GroupPlace {
  int lane, half, upper_row;
};

constexpr GroupPlace group_place(int row, int group) noexcept { return {row % 8 * 4 + group % 4, group / 4 % 2, row / 8}; }

uint32_t load_word(const uint8_t* at) noexcept {
  uint32_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

void or_word(uint8_t* at, uint32_t bits) noexcept {
  const uint32_t word = load_word(at) | bits;
  std::memcpy(at, &word, sizeof word);
}

// Where a block begins in its tile.
size_t block_offset(int depth, int block) noexcept {
  const int item = block / item_blocks(depth);
  return static_cast<size_t>(item) * item_bytes(depth) + static_cast<size_t>(block % item_blocks(depth)) * block_bytes(depth);
}

// The 16 fields of one group, into its half of the words or out of them.
template <int kDepth>
void pack_group(const uint32_t* fields, GroupPlace place, uint8_t* block) noexcept {
  constexpr int kHalfWords = half_words(kDepth);
  std::array<uint32_t, size_t{kHalfWords}> words{};
  for (size_t slot = 0; slot < kGroupColumns; ++slot) {
    const FieldPlace& at = kPlaces<kDepth>[slot];
    for (int i = 0; i < at.count; ++i) {
      const FieldPiece& piece = at.pieces[static_cast<size_t>(i)];
      words[piece.word] |= (fields[slot] >> piece.slot_bit & ((1u << piece.bits) - 1)) << piece.word_bit;
    }
  }
  for (int word = 0; word < kHalfWords; ++word) {
    or_word(block + word_offset(2 * kHalfWords, place.upper_row * kHalfWords + word, place.lane),
            words[static_cast<size_t>(word)] << (16 * place.half));
  }
}

template <int kDepth>
void unpack_group(const uint8_t* block, GroupPlace place, uint32_t* fields) noexcept {
  constexpr int kHalfWords = half_words(kDepth);
  std::array<uint32_t, size_t{kHalfWords}> words{};
  for (int word = 0; word < kHalfWords; ++word) {
    words[static_cast<size_t>(word)] =
        load_word(block + word_offset(2 * kHalfWords, place.upper_row * kHalfWords + word, place.lane)) >> (16 * place.half);
  }
  for (size_t slot = 0; slot < kGroupColumns; ++slot) {
    const FieldPlace& at = kPlaces<kDepth>[slot];
    fields[slot] = 0;
    for (int i = 0; i < at.count; ++i) {
      const FieldPiece& piece = at.pieces[static_cast<size_t>(i)];
      fields[slot] |= (words[piece.word] >> piece.word_bit & ((1u << piece.bits) - 1)) << piece.slot_bit;
    }
  }
}

// Where in its tile the scale code of a group begins: a lane's codes follow each other by block, row and half.
struct ScalePlace {
  size_t word;  // offset of the word in bytes
  int bit;
};
constexpr size_t kWordStride = kLanes * sizeof(uint32_t);

ScalePlace scale_place(int depth, int blocks, int block, GroupPlace place) noexcept {
  const int item = block / item_blocks(depth), first = item * item_blocks(depth);
  const int in_item = blocks - first < item_blocks(depth) ? blocks - first : item_blocks(depth);
  const int bit = kScaleCodeBits * ((block - first) * 4 + place.upper_row * 2 + place.half);
  return {block_offset(depth, first) + static_cast<size_t>(in_item) * block_bytes(depth) +
              static_cast<size_t>(bit / 32) * kWordStride + static_cast<size_t>(place.lane) * sizeof(uint32_t),
          bit % 32};
}

void put_scale_code(const ScalePlace& place, uint8_t* tile, uint8_t code) noexcept {
  or_word(tile + place.word, static_cast<uint32_t>(code) << place.bit);
  if (place.bit > 32 - kScaleCodeBits) or_word(tile + place.word + kWordStride, static_cast<uint32_t>(code) >> (32 - place.bit));
}

uint8_t get_scale_code(const ScalePlace& place, const uint8_t* tile) noexcept {
  uint32_t code = load_word(tile + place.word) >> place.bit;
  if (place.bit > 32 - kScaleCodeBits) code |= load_word(tile + place.word + kWordStride) << (32 - place.bit);
  return static_cast<uint8_t>(code & ((1u << kScaleCodeBits) - 1));
}

template <int kDepth>
void pack_codes(const TileCodes& source, uint8_t* tile) noexcept {
  const int blocks = blocks_of(int64_t{source.groups} * kGroupColumns);
  std::memset(tile, 0, tile_bytes(kDepth, blocks));
  for (int row = 0; row < kTileRows; ++row) {
    for (int group = 0; group < blocks * kBlockGroups; ++group) {
      const bool inside = row < source.rows && group < source.groups;
      const size_t index = static_cast<size_t>(row) * static_cast<size_t>(source.groups) + static_cast<size_t>(group);
      uint32_t fields[kGroupColumns];
      for (size_t slot = 0; slot < kGroupColumns; ++slot) {
        const int code = inside ? source.codes[index * kGroupColumns + slot] : 0;
        fields[slot] = static_cast<uint32_t>(code + largest_code(kDepth));
      }
      const GroupPlace place = group_place(row, group % kBlockGroups);
      pack_group<kDepth>(fields, place, tile + block_offset(kDepth, group / kBlockGroups));
      put_scale_code(scale_place(kDepth, blocks, group / kBlockGroups, place), tile, inside ? source.scale_codes[index] : kNoScale);
    }
  }
}

template <int kDepth>
void unpack_codes(const uint8_t* tile, int rows, int groups, int8_t* codes, uint8_t* scale_codes) noexcept {
  const int blocks = blocks_of(int64_t{groups} * kGroupColumns);
  for (int row = 0; row < rows; ++row) {
    for (int group = 0; group < groups; ++group) {
      const size_t index = static_cast<size_t>(row) * static_cast<size_t>(groups) + static_cast<size_t>(group);
      const GroupPlace place = group_place(row, group % kBlockGroups);
      uint32_t fields[kGroupColumns];
      unpack_group<kDepth>(tile + block_offset(kDepth, group / kBlockGroups), place, fields);
      for (size_t slot = 0; slot < kGroupColumns; ++slot) {
        codes[index * kGroupColumns + slot] = static_cast<int8_t>(static_cast<int>(fields[slot]) - largest_code(kDepth));
      }
      scale_codes[index] = get_scale_code(scale_place(kDepth, blocks, group / kBlockGroups, place), tile);
    }
  }
}

}  // namespace

void pack_tile(int depth, const TileCodes& source, uint8_t* tile) noexcept {
  switch (depth) {
    case 1: return pack_codes<1>(source, tile);
    case 2: return pack_codes<2>(source, tile);
    case 3: return pack_codes<3>(source, tile);
    default: return pack_codes<4>(source, tile);
  }
}

void unpack_tile(int depth, const uint8_t* tile, int rows, int groups, int8_t* codes, uint8_t* scale_codes) noexcept {
  switch (depth) {
    case 1: return unpack_codes<1>(tile, rows, groups, codes, scale_codes);
    case 2: return unpack_codes<2>(tile, rows, groups, codes, scale_codes);
    case 3: return unpack_codes<3>(tile, rows, groups, codes, scale_codes);
    default: return unpack_codes<4>(tile, rows, groups, codes, scale_codes);
  }
}

void pack_dense_tile(const uint16_t* halves, int rows, int64_t columns, uint8_t* tile) noexcept {
  const int blocks = blocks_of(columns);
  std::memset(tile, 0, tile_bytes(0, blocks));
  for (int row = 0; row < rows; ++row) {
    for (int group = 0; group < blocks * kBlockGroups; ++group) {
      const int64_t first = int64_t{group} * kGroupColumns;
      uint32_t fields[kGroupColumns] = {};
      for (int64_t slot = 0; slot < kGroupColumns && first + slot < columns; ++slot)
        fields[slot] = halves[row * columns + first + slot];
      pack_group<0>(fields, group_place(row, group % kBlockGroups), tile + block_offset(0, group / kBlockGroups));
    }
  }
}

void unpack_dense_tile(const uint8_t* tile, int rows, int64_t columns, uint16_t* halves) noexcept {
  for (int row = 0; row < rows; ++row) {
    for (int64_t first = 0; first < columns; first += kGroupColumns) {
      const int group = static_cast<int>(first / kGroupColumns);
      uint32_t fields[kGroupColumns];
      unpack_group<0>(tile + block_offset(0, group / kBlockGroups), group_place(row, group % kBlockGroups), fields);
      for (int64_t slot = 0; slot < kGroupColumns && first + slot < columns; ++slot) {
        halves[row * columns + first + slot] = static_cast<uint16_t>(fields[slot]);
      }
    }
  }
}

}  // namespace tritllm::cuda
