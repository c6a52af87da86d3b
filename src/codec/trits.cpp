#include "codec/trits.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/vector_width.h"

namespace tritllm::codec {
namespace {

constexpr std::array<unsigned, kLineGroups> kPowersOfThree{1, 3, 9, 27, 81};

// ⌊n / 3^kPosition⌋ for n in 0..80, as one 16-bit multiplication whose high half is kept: a compiler makes a SIMD instruction of
// it.
template <size_t kPosition>
uint16_t quotient_by_power(uint16_t n) noexcept {
  if constexpr (kPosition == 0) return n;
  constexpr uint32_t kDivisor = kPowersOfThree[kPosition];
  return static_cast<uint16_t>(n * ((65536 + kDivisor - 1) / kDivisor) >> 16);
}

// byte_from_digits() in 16-bit arithmetic: ⌈v·256/243⌉ = v + ⌈13·v/243⌉, and 270/65536 is just above 1/243.
constexpr uint8_t byte_from_digits_16(uint16_t v) noexcept {
  return static_cast<uint8_t>(v + (static_cast<uint32_t>(static_cast<uint16_t>(13 * v + 242)) * 270 >> 16));
}

static_assert([] {
  for (unsigned v = 0; v < 243; ++v) {
    if (byte_from_digits_16(static_cast<uint16_t>(v)) != byte_from_digits(v)) return false;
  }
  return true;
}());

// Appends the trits of one group to the line's sums, of which the most significant plane comes first.
template <size_t kDepth, size_t kPlane = 0>
void append_trits(const uint16_t* numbers, const uint16_t* above, uint16_t (*sums)[kGroupSize]) noexcept {
  uint16_t quotients[kGroupSize];
  for (size_t j = 0; j < kGroupSize; ++j) {
    quotients[j] = quotient_by_power<kDepth - 1 - kPlane>(numbers[j]);
    sums[kPlane][j] = static_cast<uint16_t>(sums[kPlane][j] * 3 + quotients[j] - above[j] * 3);
  }
  if constexpr (kPlane + 1 < kDepth) append_trits<kDepth, kPlane + 1>(numbers, quotients, sums);
}

template <size_t kDepth>
void pack_codes(const int8_t* codes, std::span<uint8_t* const> planes, size_t line) noexcept {
  constexpr uint16_t kNothingAbove[kGroupSize] = {};
  uint16_t sums[kDepth][kGroupSize] = {};
  for (size_t group = kLineGroups; group-- > 0;) {
    // Adding H turns balanced digits −1..1 into ordinary ones 0..2.
    uint16_t numbers[kGroupSize];
    for (size_t j = 0; j < kGroupSize; ++j)
      numbers[j] = static_cast<uint16_t>(codes[group * kGroupSize + j] + largest_code(int{kDepth}));
    append_trits<kDepth>(numbers, kNothingAbove, sums);
  }
  for (size_t plane = 0; plane < kDepth; ++plane) {
    uint8_t* const out = planes[plane] + line * kGroupSize;
    for (size_t j = 0; j < kGroupSize; ++j) out[j] = byte_from_digits_16(sums[plane][j]);
  }
}

void pack_scales(const uint8_t* scale_codes, uint8_t* scales) noexcept {
  for (size_t plane = 0; plane < kScaleTrits; ++plane) {
    unsigned digits = 0;
    for (size_t group = 0; group < kLineGroups; ++group) {
      digits += scale_codes[group] / kPowersOfThree[kScaleTrits - 1 - plane] % 3 * kPowersOfThree[group];
    }
    scales[plane] = byte_from_digits(digits);
  }
}

// Lines that are unpacked together, a byte for each of their columns: a vector of the widest kind.
constexpr size_t kLinesTogether = 4;

// Takes the next plane of some lines into the numbers of their groups; the first plane is the most significant one.
template <bool kFirst, size_t kBytes>
void add_digits(const uint8_t* plane, uint8_t (*numbers)[kBytes]) noexcept {
  uint8_t rest[kBytes];
  std::memcpy(rest, plane, kBytes);
  // Multiplying by 3 moves the next digit, from the last group's down, beyond the byte: 1 from 256/3 on, 2 from 512/3 on.
  for (size_t group = kLineGroups; group-- > 0;) {
    for (size_t j = 0; j < kBytes; ++j) {
      const auto digit = static_cast<uint8_t>((rest[j] > 85 ? 1 : 0) + (rest[j] > 170 ? 1 : 0));
      numbers[group][j] = static_cast<uint8_t>((kFirst ? 0 : numbers[group][j] * 3) + digit);
      rest[j] = static_cast<uint8_t>(rest[j] * 3);
    }
  }
}

template <size_t kDepth, size_t kLines>
void unpack_codes(std::span<const uint8_t* const> planes, size_t line, int8_t* codes) noexcept {
  constexpr size_t kBytes = kLines * kGroupSize;
  uint8_t numbers[kLineGroups][kBytes];
  add_digits<true, kBytes>(planes[0] + line * kGroupSize, numbers);
  for (size_t plane = 1; plane < kDepth; ++plane) add_digits<false, kBytes>(planes[plane] + line * kGroupSize, numbers);
  for (size_t group = 0; group < kLineGroups; ++group) {
    for (size_t j = 0; j < kBytes; ++j) numbers[group][j] = static_cast<uint8_t>(numbers[group][j] - largest_code(int{kDepth}));
    for (size_t i = 0; i < kLines; ++i) {
      std::memcpy(codes + ((line + i) * kLineGroups + group) * kGroupSize, numbers[group] + i * kGroupSize, kGroupSize);
    }
  }
}

template <size_t kDepth>
void unpack_all_codes(size_t lines, std::span<const uint8_t* const> planes, int8_t* codes) noexcept {
  size_t line = 0;
  for (; line + kLinesTogether <= lines; line += kLinesTogether) unpack_codes<kDepth, kLinesTogether>(planes, line, codes);
  for (; line < lines; ++line) unpack_codes<kDepth, 1>(planes, line, codes);
}

// The digits that a byte stands for, a byte for each group, the first group's lowest.
constexpr std::array<uint64_t, 256> kDigitsOfByte = [] {
  std::array<uint64_t, 256> digits{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (size_t group = 0; group < kLineGroups; ++group) {
      digits[byte] |= uint64_t{digits_from_byte(static_cast<uint8_t>(byte)) / kPowersOfThree[group] % 3} << 8 * group;
    }
  }
  return digits;
}();

void unpack_scales(const uint8_t* scales, uint8_t* scale_codes) noexcept {
  static_assert(kScaleTrits == 3);
  const uint64_t codes = kDigitsOfByte[scales[0]] * 9 + kDigitsOfByte[scales[1]] * 3 + kDigitsOfByte[scales[2]];
  for (size_t group = 0; group < kLineGroups; ++group) scale_codes[group] = static_cast<uint8_t>(codes >> 8 * group);
}

}  // namespace

TRIT_FOR_EACH_VECTOR_WIDTH
void pack_lines(size_t lines, int depth, const int8_t* codes, const uint8_t* scale_codes, std::span<uint8_t* const> planes,
                uint8_t* scales) noexcept {
  for (size_t line = 0; line < lines; ++line) {
    const int8_t* const line_codes = codes + line * kLineGroups * kGroupSize;
    switch (depth) {
      case 1: pack_codes<1>(line_codes, planes, line); break;
      case 2: pack_codes<2>(line_codes, planes, line); break;
      case 3: pack_codes<3>(line_codes, planes, line); break;
      default: pack_codes<4>(line_codes, planes, line); break;
    }
    pack_scales(scale_codes + line * kLineGroups, scales + line * kScaleTrits);
  }
}

TRIT_FOR_EACH_VECTOR_WIDTH
void unpack_lines(size_t lines, int depth, std::span<const uint8_t* const> planes, const uint8_t* scales, int8_t* codes,
                  uint8_t* scale_codes) noexcept {
  switch (depth) {
    case 1: unpack_all_codes<1>(lines, planes, codes); break;
    case 2: unpack_all_codes<2>(lines, planes, codes); break;
    case 3: unpack_all_codes<3>(lines, planes, codes); break;
    default: unpack_all_codes<4>(lines, planes, codes); break;
  }
  for (size_t line = 0; line < lines; ++line) unpack_scales(scales + line * kScaleTrits, scale_codes + line * kLineGroups);
}

TRIT_FOR_EACH_VECTOR_WIDTH
std::optional<size_t> find_invalid_trit_byte(std::span<const uint8_t> bytes) noexcept {
  // A byte of trits is b = ⌈256·v/243⌉, so 243·b = 256·v + r with r below 243; of other bytes r is 243 and more. Modulo 256, −r is
  // 13·b, which is then 1 to 13. Many bytes without a branch between them, which a compiler makes SIMD instructions of; where one
  // is wrong, it is looked for.
  constexpr size_t kAtOnce = 4096;
  for (size_t first = 0; first < bytes.size(); first += kAtOnce) {
    const auto part = bytes.subspan(first, std::min(kAtOnce, bytes.size() - first));
    uint8_t least = 255;
    for (const uint8_t byte : part) least = std::min(least, static_cast<uint8_t>(byte * 13 - 1));
    if (least >= 13) continue;
    return first + static_cast<size_t>(std::ranges::find_if_not(part, is_trit_byte) - part.begin());
  }
  return std::nullopt;
}

static_assert([] {
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (is_trit_byte(static_cast<uint8_t>(byte)) != (static_cast<uint8_t>(byte * 13 - 1) >= 13)) return false;
  }
  return true;
}());

}  // namespace tritllm::codec
