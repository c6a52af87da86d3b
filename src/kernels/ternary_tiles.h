// Owns the layout in which ternary matrices lie in memory for the integer kernels, and the way into it and back. docs/kernels.md
// draws it and says why. Does not own the packed file's layout (src/codec), which is denser and slower to read.
//
// A matrix is cut into tiles of 16 rows, and a tile into blocks of 32 columns, two groups of each row. Four tiles make a band,
// which one thread walks from end to end as one stream through memory: the blocks of the same columns lie side by side. From depth
// 2 on a block holds the codes as unsigned fields (code + largest code), then the scale code of each of its 32 groups in the table
// of scales, five bits each; fields are arranged so that a vector register of bytes gets 4 consecutive columns of each row. At
// depth 1 a vector gets 3 columns of 16 rows, and scale_codes lie among the codes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tritllm::kernels {

inline constexpr size_t kTileRows = 16;
inline constexpr size_t kTileGroups = 2;  // groups of a row in a block
inline constexpr size_t kTileColumns = 32;
inline constexpr size_t kBandTiles = 4, kBandRows = kBandTiles * kTileRows;

// How a code is held. The number of bits trades reading for unpacking, so each table of kernels has formats of its own.
enum class TileFormat : uint8_t {
  kTriples,        // depth 1: three codes in five bits, see below
  kFourBits,       // depth 2
  kFiveBits,       // depth 3: four bits and a plane of one
  kPairsOf13Bits,  // depth 4: two codes in 13 bits, see below
  kPairsOf7Bits    // depth 2: two codes have 81 values, which fit into seven bits
};
inline constexpr size_t kTileFormats = 5;
inline constexpr size_t kDepths = 4;

constexpr bool is_squeezed(TileFormat format) noexcept { return format == TileFormat::kPairsOf7Bits; }
// The format whose fields a squeezed one holds.
constexpr TileFormat unsqueezed(TileFormat format) noexcept { return is_squeezed(format) ? TileFormat::kFourBits : format; }
constexpr int format_depth(TileFormat format) noexcept { return static_cast<int>(unsqueezed(format)) + 1; }

// Of 3^depth values centred on zero.
constexpr int format_largest_code(TileFormat format) noexcept {
  constexpr int kLargest[] = {1, 4, 13, 40};
  return kLargest[static_cast<size_t>(unsqueezed(format))];
}

// Depth 1. Three codes are a balanced ternary number n = 9·first + 3·second + third, −13 to 13. A group of 16 columns has five of
// them, of columns 0 to 2 of each four and of column 3 of the first three fours, and its last column's code. With the scale code
// they are 32 bits, one in each of four planes of bytes [group][row]:
//   plane 0: |n0| in the lower half, |n1| in the upper one;  plane 1: |n2|, |n3|;  plane 2: |n4|, four bits of a scale code
//   plane 3: signs of n0 to n4 from the highest bit on, a scale code's fifth bit, last code + 2 (so that no byte is zero)
// A byte's scale code belongs to the group that triple_scale_code_place() puts there, so that a vector of multiples
// comes out of one interleaving of bytes. Groups beyond the matrix have codes of 0.
inline constexpr size_t kGroupTriples = 5;
inline constexpr uint8_t kTripleColumns[kGroupTriples][3] = {{0, 1, 2}, {4, 5, 6}, {8, 9, 10}, {12, 13, 14}, {3, 7, 11}};
inline constexpr size_t kLastColumn = 15;
// The first, second and third codes of the numbers 0 to 13; zeros for 14 and 15, which vector look-ups have beyond them.
inline constexpr auto kTripleCodes = [] {
  std::array<std::array<int16_t, 16>, 3> codes{};
  for (int number = 0; number <= 13; ++number) {
    for (int digit = 0, rest = number + 13; digit < 3; ++digit, rest /= 3) {
      codes[static_cast<size_t>(2 - digit)][static_cast<size_t>(number)] = static_cast<int16_t>(rest % 3 - 1);
    }
  }
  return codes;
}();
inline constexpr size_t kTriplePlaneBytes = kTileRows * kTileGroups;
constexpr size_t triple_scale_code_place(size_t row, size_t group) noexcept {
  return row % 8 / 4 * 16 + row / 8 * 8 + row % 4 * 2 + group;
}

// Squeezed, 64 bytes of fields are 56: every 8 bytes become as many numbers of seven bits, the first one in the lowest bits.
inline constexpr size_t kVectorBytes = 64, kSqueezedVectorBytes = 56;

// The bytes of the numbers: low field + 9 · high field.
inline constexpr std::array<uint8_t, 128> kSqueezedFields = [] {
  std::array<uint8_t, 128> fields{};
  for (size_t number = 0; number < 81; ++number) fields[number] = static_cast<uint8_t>(number % 9 | number / 9 << 4);
  return fields;
}();

// Depth 4. Of two fields a and b, 0 to 80, four bits each lie as at depth 2; then the fifth bit of b, and a joint number of four
// bits for the rest: a/16 + 5·(b/32), at most 14 where a < 80. Where a = 80 the number is 15, and a's four bits, which would be 0,
// hold b/32. Back:
//   sum = a's bits + kJointFirst[number],  a = min(sum, 80)
//   b = b's bits + 16 · fifth bit + kJointSecond[number] + 32·(sum − a)
inline constexpr uint8_t kLargestJointField = 80;
inline constexpr std::array<uint8_t, 16> kJointFirst{0, 16, 32, 48, 64, 0, 16, 32, 48, 64, 0, 16, 32, 48, 64, 80};
inline constexpr std::array<uint8_t, 16> kJointSecond{0, 0, 0, 0, 0, 32, 32, 32, 32, 32, 64, 64, 64, 64, 64, 0};

// Bytes of a block's codes, at depth 1 with its scale_codes.
constexpr size_t block_code_bytes(TileFormat format) noexcept {
  constexpr size_t kBitsOfTwo[] = {4, 8, 10, 13};
  const size_t bytes = kTileRows * kTileColumns * kBitsOfTwo[static_cast<size_t>(unsqueezed(format))] / 16;
  return is_squeezed(format) ? bytes / kVectorBytes * kSqueezedVectorBytes : bytes;
}
// Where the planes beyond the four-bit fields begin: fifth bits at depth 3; joint numbers and fifth bits at depth 4.
inline constexpr size_t kFifthBitsOffset = kTileRows * kTileColumns * 4 / 8;
inline constexpr size_t kJointOffset = kFifthBitsOffset, kJointFifthBitsOffset = kJointOffset + kTileRows * kTileColumns / 4;
inline constexpr size_t kBlockScaleCodes = kTileRows * kTileGroups, kScaleCodeNibbleBytes = kBlockScaleCodes / 2;
inline constexpr size_t kBlockScaleCodeBytes = kScaleCodeNibbleBytes + kBlockScaleCodes / 8;
// Bytes of the scale_codes behind the codes (four bits each and a plane of one), and of a whole block.
constexpr size_t block_scale_code_bytes(TileFormat format) noexcept {
  return format == TileFormat::kTriples ? 0 : kBlockScaleCodeBytes;
}
constexpr size_t block_bytes(TileFormat format) noexcept { return block_code_bytes(format) + block_scale_code_bytes(format); }

constexpr size_t tiles_of(size_t rows) noexcept { return (rows + kTileRows - 1) / kTileRows; }
constexpr size_t blocks_of(size_t columns) noexcept { return (columns + kTileColumns - 1) / kTileColumns; }

// The scale code of groups beyond the matrix: its scale is zero.
inline constexpr uint8_t kEmptyScaleCode = 27;

// The steps of a matrix (scale / largest code) as whole multiples of one unit, so that a group's sum is scaled by integers. A step
// is off by at most half a unit, 2^-16 of the largest one.
struct alignas(64) ScaleTable {
  int32_t multiples[32];      // of the scale_codes; 0 from kEmptyScaleCode on
  uint8_t low[32], high[32];  // their bytes
  float unit;
};
inline constexpr int32_t kLargestMultiple = 32767;

ScaleTable make_scale_table(const float* steps) noexcept;  // [27]

struct TernaryTiles {
  TileFormat format;
  size_t tiles, column_blocks;
  // [bands][column_blocks][tiles of the band][block_bytes(format)]; the last band may have fewer than four tiles.
  const uint8_t* blocks;
  const ScaleTable* scales;

  size_t bands() const noexcept { return (tiles + kBandTiles - 1) / kBandTiles; }
  size_t tiles_in_band(size_t band) const noexcept {
    const size_t rest = tiles - band * kBandTiles;
    return rest < kBandTiles ? rest : kBandTiles;
  }
  size_t band_offset(size_t band) const noexcept { return band * kBandTiles * column_blocks * block_bytes(format); }
  size_t bytes() const noexcept { return tiles * column_blocks * block_bytes(format); }
};

// The place of a group's scale code among the 32 behind a block's codes: a vector of 8 rows' scales comes out of two interleavings
// of bytes. Of scale code i, the low four bits are in byte i mod 16 (from 16 on in its upper half), the fifth is bit i/4 of byte i
// mod 4 of the plane.
constexpr size_t scale_code_place(size_t row, size_t group) noexcept {
  return row % 8 / 4 * 16 + (group * 2 + row / 8) * 4 + row % 4;
}

// Consecutive rows of a matrix, as the codec gives them.
template <typename Code, typename ScaleCode>
struct GroupRows {
  Code* codes;             // [rows][16·groups]
  ScaleCode* scale_codes;  // [rows][groups]
  size_t rows, groups;
};
using SourceRows = GroupRows<const int8_t, const uint8_t>;
using TargetRows = GroupRows<int8_t, uint8_t>;

// Up to 64 rows, to and from their band: [blocks_of(16·groups)][tiles_of(rows)][block_bytes(format)]. What is missing to whole
// tiles and blocks becomes empty.
void pack_band(TileFormat format, const SourceRows& source, uint8_t* blocks) noexcept;
void unpack_band(TileFormat format, const uint8_t* blocks, const TargetRows& target) noexcept;

// One row's part of a block of columns: codes [32], scale_codes [2].
void unpack_row(const TernaryTiles& matrix, size_t row, size_t block, int8_t* codes, uint8_t* scale_codes) noexcept;

}  // namespace tritllm::kernels
