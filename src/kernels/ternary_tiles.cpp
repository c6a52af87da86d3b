#include "kernels/ternary_tiles.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tritllm::kernels {

namespace {

// Four consecutive columns of a row: a byte each of one 32-bit word, so that fields are shifted in four codes at a time.
constexpr size_t kQuad = 4, kQuads = 4;  // columns of a quad, quads of a group
constexpr uint32_t kEachByte = 0x01010101u;

struct QuadPlace {
  size_t row, group, quad;  // group within the block, quad within the group

  size_t half() const noexcept { return row / 8; }
  size_t lane() const noexcept { return row % 8; }
};

uint32_t load_word(const uint8_t* from) noexcept {
  uint32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}
void store_word(uint8_t* to, uint32_t word) noexcept { std::memcpy(to, &word, sizeof(word)); }

// A field of `bits` bits of each of four codes lies in a word of its own or beside others'.
struct Field {
  size_t offset;   // of the word, within the block
  unsigned shift;  // of the field, within each byte
  unsigned bits;
  unsigned source;  // which bit of the code the field begins at

  uint32_t mask() const noexcept { return kEachByte * ((1u << bits) - 1); }
  void put(uint8_t* block, uint32_t codes) const noexcept {
    store_word(block + offset, load_word(block + offset) | ((codes >> source) & mask()) << shift);
  }
  uint32_t get(const uint8_t* block) const noexcept { return ((load_word(block + offset) >> shift) & mask()) << source; }
};

// 32-byte vectors of 8 rows: those of a group in the order in which the kernels load them.
size_t vector_offset(size_t index, size_t lane) noexcept { return index * 32 + lane * kQuad; }

Field two_bit_field(const QuadPlace& at) noexcept {
  return {vector_offset(at.group * 2 + at.half(), at.lane()), static_cast<unsigned>(2 * at.quad), 2, 0};
}
// Vectors in the order [group][pair of quads][half], the first quad of a pair in the low bits.
Field four_bit_field(const QuadPlace& at) noexcept {
  return {vector_offset((at.group * 2 + at.quad / 2) * 2 + at.half(), at.lane()), static_cast<unsigned>(4 * (at.quad % 2)), 4, 0};
}
constexpr size_t kNibbleBytes = 256, kBitPlaneBytes = 64;
// A vector for each group: bit quad + 4·half.
Field fifth_bit_field(const QuadPlace& at) noexcept {
  return {kNibbleBytes + vector_offset(at.group, at.lane()), static_cast<unsigned>(at.quad + 4 * at.half()), 1, 4};
}
Field top_bits_field(const QuadPlace& at) noexcept {
  return {kNibbleBytes + kBitPlaneBytes + vector_offset(at.group * 2 + at.half(), at.lane()), static_cast<unsigned>(2 * at.quad), 2, 5};
}
Field byte_field(const QuadPlace& at) noexcept {
  return {vector_offset((at.group * 4 + at.quad) * 2 + at.half(), at.lane()), 0, 8, 0};
}

template <typename Body>
void for_fields(TileFormat format, const QuadPlace& at, Body&& body) noexcept {
  switch (format) {
    case TileFormat::kTwoBits: return body(two_bit_field(at));
    case TileFormat::kFourBits: return body(four_bit_field(at));
    case TileFormat::kBytes: return body(byte_field(at));
    case TileFormat::kSevenBits: body(top_bits_field(at)); [[fallthrough]];
    case TileFormat::kFiveBits:
      body(four_bit_field(at));
      body(fifth_bit_field(at));
  }
}

template <typename Body>
void for_group_quads(size_t row, size_t group, Body&& body) noexcept {
  for (size_t quad = 0; quad < kQuads; ++quad) body(QuadPlace{row, group, quad});
}

}  // namespace

ScaleTable make_scale_table(TileFormat format, const float* steps) noexcept {
  ScaleTable table{};
  const float largest = *std::max_element(steps, steps + kEmptyEntry);
  table.unit = largest / static_cast<float>(largest_multiple(format));
  for (size_t entry = 0; entry < kEmptyEntry; ++entry) {
    // In double precision: a unit may be denormal.
    const double multiple = largest > 0.0f ? double{steps[entry]} / double{largest} * largest_multiple(format) : 0.0;
    table.multiples[entry] = static_cast<int32_t>(std::lround(multiple));
    table.low[entry] = static_cast<uint8_t>(table.multiples[entry] & 255);
    table.high[entry] = static_cast<uint8_t>(table.multiples[entry] >> 8);
  }
  return table;
}

void pack_band(TileFormat format, const SourceRows& source, uint8_t* blocks) noexcept {
  const size_t tiles = tiles_of(source.rows), bytes = block_bytes(format);
  const uint32_t centre = kEachByte * static_cast<uint32_t>(format_largest_code(format));
  for (size_t block = 0; block < blocks_of(source.groups * 16) * tiles; ++block) {
    std::memset(blocks + block * bytes, 0, block_code_bytes(format));
    std::memset(blocks + block * bytes + block_code_bytes(format), kEmptyEntry, kTileRows * kTileGroups);
  }
  for (size_t row = 0; row < source.rows; ++row) {
    for (size_t group = 0; group < source.groups; ++group) {
      const size_t from = row * source.groups + group, place = group % kTileGroups, lane = row % kTileRows;
      uint8_t* const block = blocks + (group / kTileGroups * tiles + row / kTileRows) * bytes;
      block[block_code_bytes(format) + entry_place(lane, place)] = source.entries[from];
      for_group_quads(lane, place, [&](const QuadPlace& at) {
        uint32_t codes;
        std::memcpy(&codes, source.codes + from * 16 + at.quad * kQuad, sizeof(codes));
        // Bytes added without carries between them: the low seven bits, then the top ones.
        const uint32_t fields = ((codes & 0x7f7f7f7fu) + centre) ^ (codes & 0x80808080u);
        for_fields(format, at, [&](const Field& field) { field.put(block, fields); });
      });
    }
  }
}

namespace {

// One row's part of a block.
void unpack_groups(TileFormat format, const uint8_t* block, size_t lane, size_t groups, int8_t* codes, uint8_t* entries) noexcept {
  for (size_t group = 0; group < groups; ++group) {
    entries[group] = block[block_code_bytes(format) + entry_place(lane, group)];
    for_group_quads(lane, group, [&](const QuadPlace& at) {
      uint32_t fields = 0;
      for_fields(format, at, [&](const Field& field) { fields |= field.get(block); });
      for (size_t i = 0; i < kQuad; ++i) {
        const auto field = static_cast<int>(fields >> (8 * i) & 255u);
        codes[group * 16 + at.quad * kQuad + i] = static_cast<int8_t>(field - format_largest_code(format));
      }
    });
  }
}

}  // namespace

void unpack_band(TileFormat format, const uint8_t* blocks, const TargetRows& target) noexcept {
  const size_t tiles = tiles_of(target.rows);
  for (size_t row = 0; row < target.rows; ++row) {
    for (size_t group = 0; group < target.groups; group += kTileGroups) {
      const size_t to = row * target.groups + group;
      unpack_groups(format, blocks + (group / kTileGroups * tiles + row / kTileRows) * block_bytes(format), row % kTileRows,
                    std::min(kTileGroups, target.groups - group), target.codes + to * 16, target.entries + to);
    }
  }
}

void unpack_row(const TernaryTiles& matrix, size_t row, int8_t* codes, uint8_t* entries) noexcept {
  const size_t band = row / kBandRows, tiles = matrix.tiles_in_band(band), tile = row % kBandRows / kTileRows;
  for (size_t block = 0; block < matrix.column_blocks; ++block) {
    unpack_groups(matrix.format, matrix.blocks + matrix.band_offset(band) + (block * tiles + tile) * block_bytes(matrix.format),
                  row % kTileRows, kTileGroups, codes + block * kTileColumns, entries + block * kTileGroups);
  }
}

}  // namespace tritllm::kernels
