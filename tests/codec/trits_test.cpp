// The byte of five trits and the lines made of such bytes, against docs/format.md word for word and its worked example.
#include "codec/trits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <set>
#include <vector>

namespace tritllm::codec {
namespace {

// Reading as the page tells it: digit 4 is the high byte of 3·x, the low byte is the next x.
std::array<int, 5> trits_by_multiplying(uint8_t byte) {
  std::array<int, 5> trits;
  unsigned rest = byte;
  for (size_t digit = 5; digit-- > 0;) {
    trits[digit] = static_cast<int>(rest * 3 >> 8) - 1;
    rest = rest * 3 & 255;
  }
  return trits;
}

TEST(TritByte, HoldsEachOfThe243ValuesOnce) {
  std::set<uint8_t> bytes;
  for (unsigned v = 0; v < 243; ++v) {
    const uint8_t byte = byte_from_digits(v);
    EXPECT_EQ(byte, std::ceil(v * 256.0 / 243.0)) << v;
    EXPECT_TRUE(is_trit_byte(byte)) << v;
    EXPECT_EQ(digits_from_byte(byte), v);
    int value = 0, worth = 1;
    for (const int trit : trits_by_multiplying(byte)) {
      value += (trit + 1) * worth;
      worth *= 3;
    }
    EXPECT_EQ(value, static_cast<int>(v));
    bytes.insert(byte);
  }
  EXPECT_EQ(bytes.size(), 243u);
}

TEST(TritByte, ThirteenBytesAreInvalid) {
  std::set<unsigned> valid;
  for (unsigned v = 0; v < 243; ++v) valid.insert((v * 256 + 242) / 243);
  std::vector<unsigned> invalid;
  for (unsigned byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(is_trit_byte(static_cast<uint8_t>(byte)), valid.contains(byte)) << byte;
    if (!valid.contains(byte)) invalid.push_back(byte);
  }
  ASSERT_EQ(invalid.size(), 13u);

  std::vector<uint8_t> bytes(100, 128);
  EXPECT_EQ(find_invalid_trit_byte(bytes), std::nullopt);
  EXPECT_EQ(find_invalid_trit_byte({}), std::nullopt);
  for (const unsigned byte : invalid) {
    for (const size_t place : {size_t{0}, size_t{1}, size_t{57}, size_t{99}}) {
      bytes[place] = static_cast<uint8_t>(byte);
      EXPECT_EQ(find_invalid_trit_byte(bytes), place);
      bytes[place] = 128;
    }
  }
  bytes[40] = bytes[7] = static_cast<uint8_t>(invalid.front());
  EXPECT_EQ(find_invalid_trit_byte(bytes), size_t{7});
}

struct Lines {
  size_t lines;
  int depth;
  std::vector<int8_t> codes;
  std::vector<uint8_t> scale_codes;
};

struct Packed {
  std::vector<std::vector<uint8_t>> planes;
  std::vector<uint8_t> scales;
};

Packed pack(const Lines& lines) {
  Packed packed{std::vector<std::vector<uint8_t>>(static_cast<size_t>(lines.depth), std::vector<uint8_t>(lines.lines * kGroupSize)),
                std::vector<uint8_t>(lines.lines * kScaleTrits)};
  std::vector<uint8_t*> planes;
  for (auto& plane : packed.planes) planes.push_back(plane.data());
  pack_lines(lines.lines, lines.depth, lines.codes.data(), lines.scale_codes.data(), planes, packed.scales.data());
  return packed;
}

Lines unpack(const Packed& packed, size_t lines, int depth) {
  Lines unpacked{lines, depth, std::vector<int8_t>(lines * kLineGroups * kGroupSize), std::vector<uint8_t>(lines * kLineGroups)};
  std::vector<const uint8_t*> planes;
  for (const auto& plane : packed.planes) planes.push_back(plane.data());
  unpack_lines(lines, depth, planes, packed.scales.data(), unpacked.codes.data(), unpacked.scale_codes.data());
  return unpacked;
}

Lines random_lines(size_t lines, int depth, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_int_distribution<int> code(-largest_code(depth), largest_code(depth)), entry(0, 26);
  Lines made{lines, depth, {}, {}};
  for (size_t i = 0; i < lines * kLineGroups * kGroupSize; ++i) made.codes.push_back(static_cast<int8_t>(code(engine)));
  for (size_t i = 0; i < lines * kLineGroups; ++i) made.scale_codes.push_back(static_cast<uint8_t>(entry(engine)));
  return made;
}

Lines constant_lines(size_t lines, int depth, int code, int entry) {
  return {lines, depth, std::vector<int8_t>(lines * kLineGroups * kGroupSize, static_cast<int8_t>(code)),
          std::vector<uint8_t>(lines * kLineGroups, static_cast<uint8_t>(entry))};
}

void expect_same(const Lines& a, const Lines& b) {
  EXPECT_EQ(a.codes, b.codes);
  EXPECT_EQ(a.scale_codes, b.scale_codes);
}

TEST(Lines, UnpackingUndoesPacking) {
  for (int depth = 1; depth <= kMaxDepth; ++depth) {
    SCOPED_TRACE(depth);
    for (size_t lines = 1; lines <= 40; ++lines) {
      const Lines random = random_lines(lines, depth, lines);
      expect_same(unpack(pack(random), lines, depth), random);
    }
    for (int code = -largest_code(depth); code <= largest_code(depth); ++code) {
      const Lines constant = constant_lines(2, depth, code, (code + largest_code(depth)) % 27);
      expect_same(unpack(pack(constant), 2, depth), constant);
    }
    for (int entry = 0; entry < 27; ++entry)
      expect_same(unpack(pack(constant_lines(1, depth, 0, entry)), 1, depth), constant_lines(1, depth, 0, entry));
  }
}

// The most significant trit of a code at a place worth 3^k, by the definition of balanced digits.
int balanced_trit(int number, int places_below) {
  for (int i = 0; i < places_below; ++i) number = static_cast<int>(std::lround(number / 3.0));
  return number - 3 * static_cast<int>(std::lround(number / 3.0));
}

TEST(Lines, BytesAreThoseOfThePage) {
  for (int depth = 1; depth <= kMaxDepth; ++depth) {
    const Lines lines = random_lines(7, depth, 99);
    const Packed packed = pack(lines);
    for (int plane = 0; plane < depth; ++plane) {
      for (size_t at = 0; at < 7 * kGroupSize; ++at) {
        unsigned v = 0, worth = 1;
        for (size_t group = 0; group < kLineGroups; ++group, worth *= 3) {
          const int code = lines.codes[(at / kGroupSize * kLineGroups + group) * kGroupSize + at % kGroupSize];
          v += static_cast<unsigned>(balanced_trit(code, depth - 1 - plane) + 1) * worth;
        }
        ASSERT_EQ(packed.planes[static_cast<size_t>(plane)][at], (v * 256 + 242) / 243)
            << "depth " << depth << " plane " << plane << " byte " << at;
      }
    }
    for (size_t at = 0; at < packed.scales.size(); ++at) {
      unsigned v = 0, worth = 1;
      for (size_t group = 0; group < kLineGroups; ++group, worth *= 3) {
        const int entry = lines.scale_codes[at / 3 * kLineGroups + group];
        v += static_cast<unsigned>(balanced_trit(entry - 13, 2 - static_cast<int>(at % 3)) + 1) * worth;
      }
      ASSERT_EQ(packed.scales[at], (v * 256 + 242) / 243) << "scale byte " << at;
    }
  }
}

TEST(Lines, WorkedExampleOfThePage) {
  const Lines lines{1,
                    2,
                    {4, -4, 3, -3, 2, -2, 1, -1, 0, 1, 2,  3, 4, 0,  0, -1, -4, 2, 0, 1,  0,  0, 0, 0,  0, 0, 0,
                     0, 0,  0, 0,  0, 1,  0, -1, 2, 0, -2, 3, 0, -3, 4, 0,  -4, 1, 1, -1, -1, 0, 3, -1, 4, 0, 0,
                     0, 0,  0, 0,  0, 0,  0, 0,  0, 0, 0,  0, 0, 0,  0, 0,  0,  0, 0, 0,  0,  0, 0, 0,  0, 0},
                    {3, 0, 7, 26, 0}};
  const Packed packed = pack(lines);
  EXPECT_EQ(packed.planes[0],
            (std::vector<uint8_t>{126, 159, 129, 165, 129, 117, 137, 128, 118, 137, 129, 120, 129, 128, 128, 128}));
  EXPECT_EQ(packed.planes[1],
            (std::vector<uint8_t>{135, 124, 90, 150, 127, 139, 129, 127, 128, 139, 127, 118, 139, 137, 118, 117}));
  EXPECT_EQ(packed.scales, (std::vector<uint8_t>{57, 77, 67}));
}

TEST(Lines, TheFirstPlanesAreTheCodesRoundedToLessDepth) {
  for (int depth = 2; depth <= kMaxDepth; ++depth) {
    const Lines lines = random_lines(9, depth, 5);
    const Packed packed = pack(lines);
    for (int less = 1; less < depth; ++less) {
      const Lines rounded = unpack(packed, 9, less);
      const double divisor = std::pow(3.0, depth - less);
      for (size_t i = 0; i < lines.codes.size(); ++i) ASSERT_EQ(rounded.codes[i], std::lround(lines.codes[i] / divisor));
      EXPECT_EQ(rounded.scale_codes, lines.scale_codes);
    }
  }
}

}  // namespace
}  // namespace tritllm::codec
