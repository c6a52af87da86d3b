#include "kernels/ternary_tiles.h"

#include <algorithm>
#include <array>
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

// Vectors in the order [group][pair of quads][half], the first quad of a pair in the low bits.
Field four_bit_field(const QuadPlace& at) noexcept {
  return {vector_offset((at.group * 2 + at.quad / 2) * 2 + at.half(), at.lane()), static_cast<unsigned>(4 * (at.quad % 2)), 4, 0};
}
// A vector for each group: bit quad + 4·half.
Field fifth_bit_field(const QuadPlace& at) noexcept {
  return {kFifthBitsOffset + vector_offset(at.group, at.lane()), static_cast<unsigned>(at.quad + 4 * at.half()), 1, 4};
}
Field top_bits_field(const QuadPlace& at) noexcept {
  return {kTopBitsOffset + vector_offset(at.group * 2 + at.half(), at.lane()), static_cast<unsigned>(2 * at.quad), 2, 5};
}

template <typename Body>
void for_fields(TileFormat format, const QuadPlace& at, Body&& body) noexcept {
  if (format == TileFormat::kSevenBits) body(top_bits_field(at));
  body(four_bit_field(at));
  if (format != TileFormat::kFourBits) body(fifth_bit_field(at));
}

// Depth 1: the byte that a quad's fields are.
size_t quad_byte(const QuadPlace& at) noexcept { return (at.quad * kTileGroups + at.group) * kTileRows + at.row; }

void put_quad(TileFormat format, const QuadPlace& at, uint32_t fields, uint8_t* block) noexcept {
  if (format == TileFormat::kTwoBits) {
    block[quad_byte(at)] = static_cast<uint8_t>(fields | fields >> 6 | fields >> 12 | fields >> 18);
  } else {
    for_fields(format, at, [&](const Field& field) { field.put(block, fields); });
  }
}

uint32_t get_quad(TileFormat format, const QuadPlace& at, const uint8_t* block) noexcept {
  uint32_t fields = 0;
  if (format == TileFormat::kTwoBits) {
    const uint32_t byte = block[quad_byte(at)];
    fields = (byte | byte << 6 | byte << 12 | byte << 18) & kEachByte * 3;
  } else {
    for_fields(format, at, [&](const Field& field) { fields |= field.get(block); });
  }
  return fields;
}

void put_entry(uint8_t* entries, size_t place, uint8_t entry) noexcept {
  entries[place % kEntryNibbleBytes] |= static_cast<uint8_t>((entry & 15) << 4 * (place / kEntryNibbleBytes));
  entries[kEntryNibbleBytes + place % 4] |= static_cast<uint8_t>((entry >> 4) << place / 4);
}
uint8_t get_entry(const uint8_t* entries, size_t place) noexcept {
  const int low = entries[place % kEntryNibbleBytes] >> 4 * (place / kEntryNibbleBytes) & 15;
  const int high = entries[kEntryNibbleBytes + place % 4] >> place / 4 & 1;
  return static_cast<uint8_t>(low | high << 4);
}

template <typename Body>
void for_group_quads(size_t row, size_t group, Body&& body) noexcept {
  for (size_t quad = 0; quad < kQuads; ++quad) body(QuadPlace{row, group, quad});
}

// One row's part of a block whose bytes are still zero. `source_groups` of it belong to the matrix.
void pack_groups(TileFormat format, const int8_t* codes, const uint8_t* entries, size_t source_groups, size_t lane,
                 uint8_t* block) noexcept {
  const uint32_t centre = kEachByte * static_cast<uint32_t>(format_largest_code(format));
  uint8_t* const block_entries = block + block_code_bytes(format);
  for (size_t group = 0; group < kTileGroups; ++group) {
    if (group >= source_groups) {
      put_entry(block_entries, entry_place(lane, group), kEmptyEntry);
      continue;
    }
    put_entry(block_entries, entry_place(lane, group), entries[group]);
    for_group_quads(lane, group, [&](const QuadPlace& at) {
      uint32_t quad;
      std::memcpy(&quad, codes + group * 16 + at.quad * kQuad, sizeof(quad));
      // Bytes added without carries between them: the low seven bits, then the top ones.
      const uint32_t fields = ((quad & 0x7f7f7f7fu) + centre) ^ (quad & 0x80808080u);
      put_quad(format, at, fields, block);
    });
  }
}

// One row's part of a block.
void unpack_groups(TileFormat format, const uint8_t* block, size_t lane, size_t groups, int8_t* codes, uint8_t* entries) noexcept {
  for (size_t group = 0; group < groups; ++group) {
    entries[group] = get_entry(block + block_code_bytes(format), entry_place(lane, group));
    for_group_quads(lane, group, [&](const QuadPlace& at) {
      const uint32_t fields = get_quad(format, at, block);
      for (size_t i = 0; i < kQuad; ++i) {
        const auto field = static_cast<int>(fields >> (8 * i) & 255u);
        codes[group * 16 + at.quad * kQuad + i] = static_cast<int8_t>(field - format_largest_code(format));
      }
    });
  }
}

// A block with room for each format's fields.
struct WideBlock {
  uint8_t bytes[block_bytes(TileFormat::kSevenBits)] = {};
};

void squeeze(const WideBlock& wide, uint8_t* block) noexcept {
  for (size_t word = 0; word < block_code_bytes(TileFormat::kSqueezedFourBits) / 7; ++word) {
    uint64_t numbers = 0;
    for (size_t i = 0; i < 8; ++i) {
      const uint8_t fields = wide.bytes[word * 8 + i];
      numbers |= static_cast<uint64_t>((fields & 15) + 9 * (fields >> 4)) << 7 * i;
    }
    std::memcpy(block + word * 7, &numbers, 7);
  }
}

// The block as it is in the format without squeezing: itself, or a copy in `room`.
const uint8_t* widened(TileFormat format, const uint8_t* block, WideBlock& room) noexcept {
  if (!is_squeezed(format)) return block;
  for (size_t word = 0; word < block_code_bytes(format) / 7; ++word) {
    uint64_t numbers = 0;
    std::memcpy(&numbers, block + word * 7, 7);
    for (size_t i = 0; i < 8; ++i) room.bytes[word * 8 + i] = kSqueezedFields[numbers >> 7 * i & 127];
  }
  std::memcpy(room.bytes + block_code_bytes(unsqueezed(format)), block + block_code_bytes(format), kBlockEntryBytes);
  return room.bytes;
}

// A tile's rows of two groups. What lies beyond the source becomes empty.
void pack_block(TileFormat format, const SourceRows& source, size_t tile, size_t column, uint8_t* block) noexcept {
  WideBlock wide;
  const size_t group = column * kTileGroups;
  for (size_t lane = 0; lane < kTileRows; ++lane) {
    const size_t row = tile * kTileRows + lane, from = row * source.groups + group;
    const bool beyond = row >= source.rows;
    pack_groups(unsqueezed(format), beyond ? nullptr : source.codes + from * 16, beyond ? nullptr : source.entries + from,
                beyond ? 0 : source.groups - group, lane, wide.bytes);
  }
  if (is_squeezed(format)) squeeze(wide, block);
  else std::memcpy(block, wide.bytes, block_code_bytes(format));
  std::memcpy(block + block_code_bytes(format), wide.bytes + block_code_bytes(unsqueezed(format)), kBlockEntryBytes);
}

}  // namespace

ScaleTable make_scale_table(const float* steps) noexcept {
  ScaleTable table{};
  const float largest = *std::max_element(steps, steps + kEmptyEntry);
  table.unit = largest / static_cast<float>(kLargestMultiple);
  for (size_t entry = 0; entry < kEmptyEntry; ++entry) {
    // In double precision: a unit may be denormal.
    const double multiple = largest > 0.0f ? double{steps[entry]} / double{largest} * kLargestMultiple : 0.0;
    table.multiples[entry] = static_cast<int32_t>(std::lround(multiple));
    table.low[entry] = static_cast<uint8_t>(table.multiples[entry] & 255);
    table.high[entry] = static_cast<uint8_t>(table.multiples[entry] >> 8);
  }
  return table;
}

void pack_band(TileFormat format, const SourceRows& source, uint8_t* blocks) noexcept {
  const size_t tiles = tiles_of(source.rows), columns = blocks_of(source.groups * 16);
  for (size_t column = 0; column < columns; ++column) {
    for (size_t tile = 0; tile < tiles; ++tile, blocks += block_bytes(format)) pack_block(format, source, tile, column, blocks);
  }
}

void unpack_band(TileFormat format, const uint8_t* blocks, const TargetRows& target) noexcept {
  for (size_t group = 0; group < target.groups; group += kTileGroups) {
    for (size_t first = 0; first < target.rows; first += kTileRows, blocks += block_bytes(format)) {
      WideBlock room;
      const uint8_t* const block = widened(format, blocks, room);
      for (size_t row = first; row < std::min(first + kTileRows, target.rows); ++row) {
        const size_t to = row * target.groups + group;
        unpack_groups(unsqueezed(format), block, row - first, std::min(kTileGroups, target.groups - group), target.codes + to * 16,
                      target.entries + to);
      }
    }
  }
}

void unpack_row(const TernaryTiles& matrix, size_t row, size_t block, int8_t* codes, uint8_t* entries) noexcept {
  const size_t band = row / kBandRows, tile = row % kBandRows / kTileRows;
  const size_t index = block * matrix.tiles_in_band(band) + tile;
  const uint8_t* const bytes = matrix.blocks + matrix.band_offset(band) + index * block_bytes(matrix.format);
  WideBlock room;
  unpack_groups(unsqueezed(matrix.format), widened(matrix.format, bytes, room), row % kTileRows, kTileGroups, codes, entries);
}

}  // namespace tritllm::kernels
