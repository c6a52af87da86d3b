// Owns the layout in which matrices lie in device memory for the products: tiles, items, and the places of codes and scale codes
// in them. Shared by host and device code. Does not own packing (pack.h) nor decoding in kernels (decode.cuh).
//
// A matrix is cut into tiles of 16 rows, and a tile into blocks of 128 columns: 8 groups of 16 columns in each row. One warp
// multiplies one block with 8 steps of mma m16n8k16, so the words of a block lie in the order of that instruction's A operand and
// a word is decoded where it lands. Lane (g, t) = (lane / 4, lane % 4) holds, of rows g and g + 8, group t of the block in the low
// halves of its words and group 4 + t in the high halves: slot s of the sixteen is column s of the group, and step j multiplies
// slots 2j and 2j + 1. A lane therefore decodes whole groups, and needs four scales for its 64 weights.
//
// Depth 0 is dense FP16: a half-word a weight, no scales. Depths 1 to 4 hold code + largest code in fields of 2, 4, 5 and 7 bits.
// Blocks follow each other in items: four blocks and, behind them, the scale codes of all four in three words a lane (an item of
// depth 0 is one block). The last item of a tile may have fewer blocks; columns beyond the matrix are code 0 with scale code 27,
// whose step is 0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tritllm::cuda {

inline constexpr int kMaxDepth = 4;
inline constexpr int kTileRows = 16;
inline constexpr int kGroupColumns = 16;
inline constexpr int kBlockColumns = 128;
inline constexpr int kBlockGroups = kBlockColumns / kGroupColumns;
inline constexpr int kLanes = 32;
inline constexpr int kScaleWords = 3;  // a lane's 16 scale codes of 5 bits in an item of four blocks
inline constexpr int kScaleCodeBits = 5;
inline constexpr uint8_t kNoScale = 27;     // the scale code of groups beyond the matrix
inline constexpr int kScaleTableSize = 32;  // steps a matrix's table has room for, so that any five bits may index it

// Words that hold the 16 slots of two groups (low and high halves) of one row, and of a block and lane: two rows.
constexpr int half_words(int depth) noexcept { return depth == 0 ? 16 : depth == 1 ? 2 : depth == 2 ? 4 : depth == 3 ? 5 : 7; }
constexpr int block_words(int depth) noexcept { return 2 * half_words(depth); }
constexpr int item_blocks(int depth) noexcept { return depth == 0 ? 1 : 4; }
constexpr int scale_words(int depth) noexcept { return depth == 0 ? 0 : kScaleWords; }
constexpr int largest_code(int depth) noexcept { return depth == 1 ? 1 : depth == 2 ? 4 : depth == 3 ? 13 : 40; }

// Bytes of all lanes.
constexpr size_t block_bytes(int depth) noexcept { return static_cast<size_t>(block_words(depth)) * kLanes * 4; }
constexpr size_t item_bytes(int depth) noexcept {
  return static_cast<size_t>(item_blocks(depth)) * block_bytes(depth) + static_cast<size_t>(scale_words(depth)) * kLanes * 4;
}

constexpr int64_t tiles_of(int64_t rows) noexcept { return (rows + kTileRows - 1) / kTileRows; }
constexpr int blocks_of(int64_t columns) noexcept { return static_cast<int>((columns + kBlockColumns - 1) / kBlockColumns); }
constexpr int items_of(int depth, int blocks) noexcept { return (blocks + item_blocks(depth) - 1) / item_blocks(depth); }
constexpr size_t tile_bytes(int depth, int blocks) noexcept {
  return static_cast<size_t>(blocks) * block_bytes(depth) +
         static_cast<size_t>(items_of(depth, blocks) * scale_words(depth)) * kLanes * 4;
}
constexpr size_t matrix_bytes(int depth, int64_t rows, int64_t columns) noexcept {
  return static_cast<size_t>(tiles_of(rows)) * tile_bytes(depth, blocks_of(columns));
}

// Where word `index` of a run of `count` words of a lane lies, in bytes from the run's beginning: first all lanes' vectors of four
// words, then vectors of two, then single words, so that every load of a warp is one contiguous stretch.
constexpr int word_offset(int count, int index, int lane) noexcept {
  const int fours = count / 4 * 4, rest = index - fours;
  if (rest < 0) return index / 4 * 512 + lane * 16 + index % 4 * 4;
  if (count % 4 < 2) return fours * 128 + lane * 4;
  if (rest < 2) return fours * 128 + lane * 8 + rest * 4;
  return fours * 128 + 256 + lane * 4;
}

// Bits [slot_bit, slot_bit + bits) of a slot's field lie at bit `word_bit` of half of word `word`.
struct FieldPiece {
  uint8_t word, word_bit, slot_bit, bits;
};
struct FieldPlace {
  std::array<FieldPiece, 5> pieces{};
  int count = 0;
};

// The place of each slot. The spare bits at the top of the half-words hold, bit by bit, the slots that did not fit.
constexpr FieldPlace field_place(int depth, int slot) noexcept {
  FieldPlace place;
  const auto add = [&](int word, int word_bit, int slot_bit, int bits) {
    place.pieces[static_cast<size_t>(place.count++)] = {static_cast<uint8_t>(word), static_cast<uint8_t>(word_bit),
                                                        static_cast<uint8_t>(slot_bit), static_cast<uint8_t>(bits)};
  };
  switch (depth) {
    case 0: add(slot, 0, 0, 16); break;
    case 1: add(slot / 8, slot % 8 * 2, 0, 2); break;
    case 2: add(slot / 4, slot % 4 * 4, 0, 4); break;
    case 3:
      if (slot < 15) {
        add(slot / 3, slot % 3 * 5, 0, 5);
      } else {
        for (int bit = 0; bit < 5; ++bit) add(bit, 15, bit, 1);
      }
      break;
    default:
      if (slot < 14) {
        add(slot / 2, slot % 2 * 7, 0, 7);
      } else if (slot == 14) {
        for (int word = 0; word < 3; ++word) add(word, 14, 2 * word, 2);
        add(3, 14, 6, 1);
      } else {
        add(3, 15, 0, 1);
        for (int word = 4; word < 7; ++word) add(word, 14, 2 * word - 7, 2);
      }
  }
  return place;
}

// The kernels leave a field at the bit where it lies: its value then counts `field_power` times.
constexpr int field_power(int depth, int slot) noexcept {
  switch (depth) {
    case 1: return 1 << (2 * (slot % 4));
    case 2: return slot % 2 == 1 ? 16 : 1;
    case 3: return slot < 15 && slot % 3 == 1 ? 32 : 1;
    default: return 1;
  }
}

// The column, within its block of 128, of k-position `place` of the eight mma steps: the order in which prepared activations lie.
constexpr int column_of_place(int place) noexcept {
  const int step = place / 16, rest = place % 16, lane = rest % 8 / 2, half = rest % 2, second = rest / 8;
  return (lane + 4 * half) * kGroupColumns + 2 * step + second;
}

}  // namespace tritllm::cuda
