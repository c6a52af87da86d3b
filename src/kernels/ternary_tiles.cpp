#include "kernels/ternary_tiles.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/vector_width.h"

namespace tritllm::kernels {

namespace {

// Four consecutive columns of a row: a byte each of one 32-bit word, so that fields are shifted in four codes at a time.
constexpr size_t kQuad = 4, kQuads = 4;  // columns of a quad, quads of a group
constexpr uint32_t kEachByte = 0x01010101u;

// A quad of each of eight rows, which lie beside each other in a block.
constexpr size_t kLanes = 8;
using Lanes = std::array<uint32_t, kLanes>;

struct QuadPlace {
  size_t row, group, quad;  // group within the block, quad within the group

  constexpr size_t half() const noexcept { return row / 8; }
  constexpr size_t lane() const noexcept { return row % 8; }
};

// Calls `body` with 0 to kCount − 1, known to the compiler: so are the places and shifts that follow from them.
template <size_t kCount, typename Body>
void unrolled(const Body& body) noexcept {
  [&]<size_t... kIndices>(std::index_sequence<kIndices...>) { (body(std::integral_constant<size_t, kIndices>()), ...); }
  (std::make_index_sequence<kCount>());
}

uint32_t load_word(const void* from) noexcept {
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
  // Of eight rows, of which the place is the first one's. A vector for each loop.
  void put(uint8_t* block, const Lanes& codes) const noexcept {
    Lanes words;  // a copy, as bytes of the block might be those of the codes for all that a compiler knows
    std::memcpy(words.data(), block + offset, sizeof(words));
    for (size_t lane = 0; lane < kLanes; ++lane) words[lane] |= ((codes[lane] >> source) & mask()) << shift;
    std::memcpy(block + offset, words.data(), sizeof(words));
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
// Of pairs of quads: four bits of each pair in the order [group][half], the first pair in the low bits; one vector of fifth bits.
Field joint_field(const QuadPlace& first) noexcept {
  return {kJointOffset + vector_offset(first.group * 2 + first.half(), first.lane()), static_cast<unsigned>(2 * first.quad), 4, 0};
}
Field joint_fifth_bit_field(const QuadPlace& first) noexcept {
  return {kJointFifthBitsOffset + vector_offset(0, first.lane()),
          static_cast<unsigned>(first.quad / 2 + 2 * first.group + 4 * first.half()), 1, 4};
}

// The fields of a row's part of a group, a byte each.
using Quads = std::array<uint32_t, kQuads>;

void put_pair(const QuadPlace& first, const Lanes& fields, const Lanes& second_fields, uint8_t* block) noexcept {
  // In each byte: the first field is 16·high + its low bits, and the number high + 5·(second / 32), but for the largest first
  // field, whose number is 15 and in the place of whose low bits the second one's are.
  static_assert(kLargestJointField == 80);
  Lanes first_bits, numbers;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t field = fields[lane], second_high = second_fields[lane] >> 5 & 3 * kEachByte;
    const uint32_t largest = (field + (128 - kLargestJointField) * kEachByte) >> 7 & kEachByte, is_largest = largest * 255;
    first_bits[lane] = (field & ~is_largest) | (second_high & is_largest);
    numbers[lane] = ((field >> 4 & 7 * kEachByte) + 5 * second_high) | is_largest;
  }
  four_bit_field(first).put(block, first_bits);
  four_bit_field({first.row, first.group, first.quad + 1}).put(block, second_fields);
  joint_field(first).put(block, numbers);
  joint_fifth_bit_field(first).put(block, second_fields);
}

void get_pair(const QuadPlace& first, const uint8_t* block, uint32_t& fields, uint32_t& second_fields) noexcept {
  const uint32_t first_bits = four_bit_field(first).get(block), numbers = joint_field(first).get(block);
  fields = 0;
  second_fields = four_bit_field({first.row, first.group, first.quad + 1}).get(block) | joint_fifth_bit_field(first).get(block);
  for (size_t shift = 0; shift < 32; shift += 8) {
    const uint32_t number = numbers >> shift & 15, sum = (first_bits >> shift & 15) + kJointFirst[number];
    const uint32_t field = std::min<uint32_t>(sum, kLargestJointField);
    fields |= field << shift;
    second_fields += (kJointSecond[number] + 32 * (sum - field)) << shift;
  }
}

// The fields of eight rows' parts of a group, from `row` on, into a block whose bytes are still zero.
template <TileFormat kFormat, size_t kRow, size_t kGroup>
void put_quads(const std::array<Lanes, kQuads>& fields, uint8_t* block) noexcept {
  unrolled<kQuads>([&](auto quad) {
    constexpr QuadPlace kPlace{kRow, kGroup, quad};
    if constexpr (kFormat == TileFormat::kPairsOf13Bits) {
      if constexpr (quad % 2 == 0) put_pair(kPlace, fields[quad], fields[quad + 1], block);
    } else {
      if constexpr (kFormat == TileFormat::kFiveBits) fifth_bit_field(kPlace).put(block, fields[quad]);
      four_bit_field(kPlace).put(block, fields[quad]);
    }
  });
}

Quads get_quads(TileFormat format, size_t row, size_t group, const uint8_t* block) noexcept {
  Quads fields{};
  for (size_t quad = 0; quad < kQuads; ++quad) {
    const QuadPlace at{row, group, quad};
    switch (format) {
      case TileFormat::kFiveBits: fields[quad] = fifth_bit_field(at).get(block); [[fallthrough]];
      case TileFormat::kFourBits: fields[quad] |= four_bit_field(at).get(block); break;
      case TileFormat::kPairsOf13Bits:
        if (quad % 2 == 0) get_pair(at, block, fields[quad], fields[quad + 1]);
        break;
      case TileFormat::kTriples:
      case TileFormat::kPairsOf7Bits: break;
    }
  }
  return fields;
}

// The scale codes of a block's rows: four rows' pairs, the first row's and group's in the lowest byte.
using ScaleCodePairs = std::array<uint64_t, kTileRows / 4>;

void put_scale_codes(const ScaleCodePairs& pairs, uint8_t* to) noexcept {
  static_assert(kTileGroups == 2 && scale_code_place(3, 0) == 3 && scale_code_place(0, 1) == 8 && scale_code_place(4, 0) == 16 &&
                scale_code_place(8, 0) == 4);
  // Four rows' codes of one group become neighbours.
  const auto gathered = [](uint64_t pair) {
    pair &= 0x00ff00ff00ff00ff;
    pair = (pair | pair >> 8) & 0x0000ffff0000ffff;
    return static_cast<uint32_t>(pair | pair >> 16);
  };
  uint32_t words[kBlockScaleCodes / 4];
  for (size_t i = 0; i < pairs.size(); ++i) {
    const size_t at = i % 2 * 4 + i / 2;
    words[at] = gathered(pairs[i]);
    words[at + 2] = gathered(pairs[i] >> 8);
  }
  constexpr size_t kNibbleWords = kScaleCodeNibbleBytes / 4;
  uint32_t fifth_bits = 0;
  for (size_t i = 0; i < kNibbleWords; ++i) {
    store_word(to + 4 * i, (words[i] & 15 * kEachByte) | (words[i + kNibbleWords] & 15 * kEachByte) << 4);
  }
  for (size_t i = 0; i < kBlockScaleCodes / 4; ++i) fifth_bits |= (words[i] >> 4 & kEachByte) << i;
  store_word(to + kScaleCodeNibbleBytes, fifth_bits);
}
uint8_t get_scale_code(const uint8_t* scale_codes, size_t place) noexcept {
  const int low = scale_codes[place % kScaleCodeNibbleBytes] >> 4 * (place / kScaleCodeNibbleBytes) & 15;
  const int high = scale_codes[kScaleCodeNibbleBytes + place % 4] >> place / 4 & 1;
  return static_cast<uint8_t>(low | high << 4);
}

// A row's part of a group at depth 1.
struct Triples {
  uint8_t magnitudes[kGroupTriples] = {};
  uint8_t signs = 0;  // in the five highest bits
  uint8_t last = 2;

  void get_codes(int8_t* codes) const noexcept {
    for (size_t triple = 0; triple < kGroupTriples; ++triple) {
      const bool negative = (signs >> (7 - triple) & 1) != 0;
      for (size_t i = 0; i < 3; ++i) {
        const int code = kTripleCodes[i][magnitudes[triple]];
        codes[kTripleColumns[triple][i]] = static_cast<int8_t>(negative ? -code : code);
      }
    }
    codes[kLastColumn] = static_cast<int8_t>(last - 2);
  }
};

uint8_t plane_byte(const uint8_t* block, size_t plane, size_t place) noexcept { return block[plane * kTriplePlaneBytes + place]; }

Triples get_triples(size_t row, size_t group, const uint8_t* block) noexcept {
  const size_t place = group * kTileRows + row;
  Triples triples;
  for (size_t triple = 0; triple < kGroupTriples; ++triple) {
    triples.magnitudes[triple] = plane_byte(block, triple / 2, place) >> 4 * (triple % 2) & 15;
  }
  triples.signs = plane_byte(block, 3, place) & 0xf8;
  triples.last = plane_byte(block, 3, place) & 3;
  return triples;
}
uint8_t get_triples_scale_code(size_t row, size_t group, const uint8_t* block) noexcept {
  const size_t place = triple_scale_code_place(row, group);
  return static_cast<uint8_t>(plane_byte(block, 2, place) >> 4 | (plane_byte(block, 3, place) >> 2 & 1) << 4);
}

// The fields of four codes: bytes added without carries between them, the low seven bits, then the top ones.
uint32_t fields_of(TileFormat format, uint32_t codes) noexcept {
  const uint32_t centre = kEachByte * static_cast<uint32_t>(format_largest_code(format));
  return ((codes & 0x7f7f7f7fu) + centre) ^ (codes & 0x80808080u);
}

// A quad of each of up to eight rows of a group, from row `first_row` on; empty beyond `rows`.
template <TileFormat kFormat>
std::array<Lanes, kQuads> quads_of(const SourceRows& source, size_t first_row, size_t rows, size_t group) noexcept {
  std::array<Lanes, kQuads> quads;
  const auto put_row = [&](size_t lane) {
    const int8_t* const codes = source.codes + ((first_row + lane) * source.groups + group) * 16;
    for (size_t quad = 0; quad < kQuads; ++quad) quads[quad][lane] = load_word(codes + quad * kQuad);
  };
  if (rows >= kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) put_row(lane);
    for (Lanes& quad : quads) {
      for (uint32_t& word : quad) word = fields_of(kFormat, word);
    }
    return quads;
  }
  // Beside triples, what is missing has fields of 0 and the scale of zero; triples have codes of 0.
  constexpr uint32_t kMissing = kFormat == TileFormat::kTriples ? kEachByte : 0;
  for (Lanes& quad : quads) quad.fill(kMissing);
  for (size_t lane = 0; lane < rows; ++lane) {
    put_row(lane);
    for (Lanes& quad : quads) quad[lane] = fields_of(kFormat, quad[lane]);
  }
  return quads;
}

// The tile's rows of a group at depth 1, into the block's four planes.
void put_triples(const std::array<Lanes, kQuads> (&halves)[2], size_t group, uint8_t* block) noexcept {
  static_assert(kTripleColumns[1][0] == kQuad && kTripleColumns[kQuads][2] == 2 * kQuad + 3 && kLastColumn == 3 * kQuad + 3,
                "a triple is a quad's first three columns or the fourth ones of three quads");
  for (size_t half = 0; half < 2; ++half) {
    const std::array<Lanes, kQuads>& quads = halves[half];
    // Fields are codes + 1, so numbers of them are 13 more than the codes'.
    constexpr uint32_t kZero = 13, kOfFirstThree = 9 << 16 | 3 << 8 | 1;
    std::array<Lanes, kGroupTriples> numbers;
    for (size_t quad = 0; quad < kQuads; ++quad) {
      // The third byte of the product is 9·first + 3·second + third; those below it do not carry.
      for (size_t lane = 0; lane < kLanes; ++lane) numbers[quad][lane] = quads[quad][lane] * kOfFirstThree >> 16 & 255;
    }
    for (size_t lane = 0; lane < kLanes; ++lane)
      numbers[kQuads][lane] = 9 * (quads[0][lane] >> 24) + 3 * (quads[1][lane] >> 24) + (quads[2][lane] >> 24);
    std::array<Lanes, 4> plane_words{};
    for (size_t lane = 0; lane < kLanes; ++lane) plane_words[3][lane] = (quads[3][lane] >> 24) + 1;
    unrolled<kGroupTriples>([&](auto triple) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        // All bits where the number is negative, which turns it into its magnitude without a branch.
        const uint32_t number = numbers[triple][lane] - kZero, negative = 0 - (number >> 31);
        plane_words[triple / 2][lane] |= ((number ^ negative) - negative) << 4 * (triple % 2);
        plane_words[3][lane] |= negative & 0x80u >> triple;
      }
    });
    for (size_t plane = 0; plane < plane_words.size(); ++plane) {
      uint8_t* const to = block + plane * kTriplePlaneBytes + group * kTileRows + half * kLanes;
      for (size_t lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<uint8_t>(plane_words[plane][lane]);
    }
  }
}

// Beside the triples.
void put_triples_scale_codes(const ScaleCodePairs& pairs, uint8_t* block) noexcept {
  static_assert(triple_scale_code_place(0, 1) == 1 && triple_scale_code_place(3, 0) == 6 && triple_scale_code_place(4, 0) == 16 &&
                triple_scale_code_place(8, 0) == 8);
  for (size_t i = 0; i < pairs.size(); ++i) {
    constexpr uint64_t kEach = 0x0101010101010101;
    uint8_t* const to = block + 2 * kTriplePlaneBytes + i % 2 * 16 + i / 2 * 8;
    uint64_t low, high;
    std::memcpy(&low, to, sizeof(low));
    std::memcpy(&high, to + kTriplePlaneBytes, sizeof(high));
    low |= (pairs[i] & 15 * kEach) << 4;
    high |= (pairs[i] >> 4 & kEach) << 2;
    std::memcpy(to, &low, sizeof(low));
    std::memcpy(to + kTriplePlaneBytes, &high, sizeof(high));
  }
}

ScaleCodePairs scale_code_pairs(const SourceRows& source, size_t first_row, size_t first_group) noexcept {
  uint8_t pairs[kTileRows][kTileGroups];
  const auto from = [&](size_t row) { return source.scale_codes + (first_row + row) * source.groups + first_group; };
  if (first_row + kTileRows <= source.rows && first_group + kTileGroups <= source.groups) {
    for (size_t row = 0; row < kTileRows; ++row) std::memcpy(pairs[row], from(row), kTileGroups);
  } else {
    for (size_t row = 0; row < kTileRows; ++row) {
      for (size_t group = 0; group < kTileGroups; ++group) {
        const bool beyond = first_row + row >= source.rows || first_group + group >= source.groups;
        pairs[row][group] = beyond ? kEmptyScaleCode : from(row)[group];
      }
    }
  }
  return std::bit_cast<ScaleCodePairs>(pairs);
}

// The tile's rows of two groups, into a block whose bytes are still zero. What lies beyond the source becomes empty.
template <TileFormat kFormat>
void put_codes(const SourceRows& source, size_t first_row, size_t first_group, uint8_t* block) noexcept {
  const size_t rows = std::min(kTileRows, source.rows - std::min(source.rows, first_row)),
               groups = std::min(kTileGroups, source.groups - first_group);
  if constexpr (kFormat == TileFormat::kTriples) {
    for (size_t group = 0; group < kTileGroups; ++group) {
      const size_t present = group < groups ? rows : 0;
      const std::array<Lanes, kQuads> halves[] = {
          quads_of<kFormat>(source, first_row, present, first_group + group),
          quads_of<kFormat>(source, first_row + kLanes, present - std::min(present, kLanes), first_group + group)};
      put_triples(halves, group, block);
    }
    return;
  }
  unrolled<kTileGroups>([&](auto group) {
    unrolled<kTileRows / kLanes>([&](auto half) {
      constexpr size_t kRow = half * kLanes;
      if (group >= groups || kRow >= rows) return;
      put_quads<kFormat, kRow, group>(quads_of<kFormat>(source, first_row + kRow, rows - kRow, first_group + group), block);
    });
  });
}

// One row's part of a block.
void unpack_groups(TileFormat format, const uint8_t* block, size_t lane, size_t groups, int8_t* codes,
                   uint8_t* scale_codes) noexcept {
  for (size_t group = 0; group < groups; ++group) {
    int8_t* const to = codes + group * 16;
    if (format == TileFormat::kTriples) {
      scale_codes[group] = get_triples_scale_code(lane, group, block);
      get_triples(lane, group, block).get_codes(to);
      continue;
    }
    scale_codes[group] = get_scale_code(block + block_code_bytes(format), scale_code_place(lane, group));
    const Quads fields = get_quads(format, lane, group, block);
    for (size_t i = 0; i < 16; ++i) {
      const auto field = static_cast<int>(fields[i / kQuad] >> (8 * (i % kQuad)) & 255u);
      to[i] = static_cast<int8_t>(field - format_largest_code(format));
    }
  }
}

// A block with room for each format's fields.
struct WideBlock {
  uint8_t bytes[block_bytes(TileFormat::kPairsOf13Bits)] = {};
};

void squeeze(const WideBlock& wide, uint8_t* block) noexcept {
  constexpr uint64_t kLowFields = 0x0f0f0f0f0f0f0f0f;
  constexpr size_t kWords = block_code_bytes(TileFormat::kPairsOf7Bits) / 7;
  std::array<uint64_t, kWords> words;
  std::memcpy(words.data(), wide.bytes, sizeof(words));
  for (uint64_t& word : words) {
    // Eight numbers of seven bits, a byte each, then pairs of them side by side, pairs of pairs, and all.
    word = (word & kLowFields) + 9 * (word >> 4 & kLowFields);
    word = (word & 0x007f007f007f007f) | (word & 0x7f007f007f007f00) >> 1;
    word = (word & 0x00003fff00003fff) | (word & 0x3fff00003fff0000) >> 2;
    word = (word & 0x000000000fffffff) | (word & 0x0fffffff00000000) >> 4;
  }
  // Each word's eighth byte is zero and overwritten by the next one's first.
  for (size_t i = 0; i + 1 < kWords; ++i) std::memcpy(block + i * 7, &words[i], 8);
  std::memcpy(block + (kWords - 1) * 7, &words[kWords - 1], 7);
}

// The block as it is in the format without squeezing: itself, or a copy in `room`.
const uint8_t* widened(TileFormat format, const uint8_t* block, WideBlock& room) noexcept {
  if (!is_squeezed(format)) return block;
  for (size_t word = 0; word < block_code_bytes(format) / 7; ++word) {
    uint64_t numbers = 0;
    std::memcpy(&numbers, block + word * 7, 7);
    for (size_t i = 0; i < 8; ++i) room.bytes[word * 8 + i] = kSqueezedFields[numbers >> 7 * i & 127];
  }
  std::memcpy(room.bytes + block_code_bytes(unsqueezed(format)), block + block_code_bytes(format), block_scale_code_bytes(format));
  return room.bytes;
}

// A tile's rows of two groups. What lies beyond the source becomes empty.
template <TileFormat kFormat>
void pack_block(const SourceRows& source, size_t tile, size_t column, uint8_t* block) noexcept {
  constexpr TileFormat kWide = unsqueezed(kFormat);
  WideBlock wide;
  const size_t first_row = tile * kTileRows, first_group = column * kTileGroups;
  const ScaleCodePairs pairs = scale_code_pairs(source, first_row, first_group);
  put_codes<kWide>(source, first_row, first_group, wide.bytes);
  if constexpr (kWide == TileFormat::kTriples) put_triples_scale_codes(pairs, wide.bytes);
  else put_scale_codes(pairs, wide.bytes + block_code_bytes(kWide));
  if constexpr (is_squeezed(kFormat)) squeeze(wide, block);
  else std::memcpy(block, wide.bytes, block_code_bytes(kFormat));
  std::memcpy(block + block_code_bytes(kFormat), wide.bytes + block_code_bytes(kWide), block_scale_code_bytes(kFormat));
}

template <TileFormat kFormat>
void pack_band_as(const SourceRows& source, uint8_t* blocks) noexcept {
  const size_t tiles = tiles_of(source.rows), columns = blocks_of(source.groups * 16);
  for (size_t column = 0; column < columns; ++column) {
    for (size_t tile = 0; tile < tiles; ++tile, blocks += block_bytes(kFormat)) pack_block<kFormat>(source, tile, column, blocks);
  }
}

}  // namespace

ScaleTable make_scale_table(const float* steps) noexcept {
  ScaleTable table{};
  const float largest = *std::max_element(steps, steps + kEmptyScaleCode);
  table.unit = largest / static_cast<float>(kLargestMultiple);
  for (size_t scale_code = 0; scale_code < kEmptyScaleCode; ++scale_code) {
    // In double precision: a unit may be denormal.
    const double multiple = largest > 0.0f ? double{steps[scale_code]} / double{largest} * kLargestMultiple : 0.0;
    table.multiples[scale_code] = static_cast<int32_t>(std::lround(multiple));
    table.low[scale_code] = static_cast<uint8_t>(table.multiples[scale_code] & 255);
    table.high[scale_code] = static_cast<uint8_t>(table.multiples[scale_code] >> 8);
  }
  return table;
}

TRIT_FOR_EACH_VECTOR_WIDTH
void pack_band(TileFormat format, const SourceRows& source, uint8_t* blocks) noexcept {
  switch (format) {
    case TileFormat::kTriples: return pack_band_as<TileFormat::kTriples>(source, blocks);
    case TileFormat::kFourBits: return pack_band_as<TileFormat::kFourBits>(source, blocks);
    case TileFormat::kFiveBits: return pack_band_as<TileFormat::kFiveBits>(source, blocks);
    case TileFormat::kPairsOf13Bits: return pack_band_as<TileFormat::kPairsOf13Bits>(source, blocks);
    case TileFormat::kPairsOf7Bits: return pack_band_as<TileFormat::kPairsOf7Bits>(source, blocks);
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
                      target.scale_codes + to);
      }
    }
  }
}

void unpack_row(const TernaryTiles& matrix, size_t row, size_t block, int8_t* codes, uint8_t* scale_codes) noexcept {
  const size_t band = row / kBandRows, tile = row % kBandRows / kTileRows;
  const size_t index = block * matrix.tiles_in_band(band) + tile;
  const uint8_t* const bytes = matrix.blocks + matrix.band_offset(band) + index * block_bytes(matrix.format);
  WideBlock room;
  unpack_groups(unsqueezed(matrix.format), widened(matrix.format, bytes, room), row % kTileRows, kTileGroups, codes, scale_codes);
}

}  // namespace tritllm::kernels
