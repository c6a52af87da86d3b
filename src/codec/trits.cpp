#include "codec/trits.h"

#include <array>

namespace tritllm::codec {
namespace {

constexpr std::array<unsigned, kLineGroups> kPowersOfThree{1, 3, 9, 27, 81};

constexpr std::array<bool, 256> kIsTritByte = [] {
  std::array<bool, 256> valid{};
  for (unsigned byte = 0; byte < 256; ++byte) valid[byte] = is_trit_byte(static_cast<uint8_t>(byte));
  return valid;
}();

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

void unpack_scales(const uint8_t* scales, uint8_t* scale_codes) noexcept {
  for (size_t group = 0; group < kLineGroups; ++group) {
    unsigned scale_code = 0;
    for (size_t plane = 0; plane < kScaleTrits; ++plane) {
      scale_code = scale_code * 3 + digits_from_byte(scales[plane]) / kPowersOfThree[group] % 3;
    }
    scale_codes[group] = static_cast<uint8_t>(scale_code);
  }
}

}  // namespace

void pack_lines(size_t lines, int depth, const int8_t* codes, const uint8_t* scale_codes, std::span<uint8_t* const> planes,
                uint8_t* scales) noexcept {
  constexpr std::array kPackCodes{pack_codes<1>, pack_codes<2>, pack_codes<3>, pack_codes<4>};
  const auto pack = kPackCodes[static_cast<size_t>(depth) - 1];
  for (size_t line = 0; line < lines; ++line) {
    pack(codes + line * kLineGroups * kGroupSize, planes, line);
    pack_scales(scale_codes + line * kLineGroups, scales + line * kScaleTrits);
  }
}

void unpack_lines(size_t lines, int depth, std::span<const uint8_t* const> planes, const uint8_t* scales, int8_t* codes,
                  uint8_t* scale_codes) noexcept {
  const int largest = largest_code(depth);
  for (size_t line = 0; line < lines;
       ++line, codes += kLineGroups * kGroupSize, scale_codes += kLineGroups, scales += kScaleTrits) {
    int16_t sums[kLineGroups][kGroupSize] = {};
    for (size_t plane = 0; plane < static_cast<size_t>(depth); ++plane) {
      const uint8_t* const bytes = planes[plane] + line * kGroupSize;
      uint32_t rest[kGroupSize];
      for (size_t j = 0; j < kGroupSize; ++j) rest[j] = bytes[j];
      // Multiplying by 3 moves the next digit, from the last group's down, into the high byte.
      for (size_t group = kLineGroups; group-- > 0;) {
        for (size_t j = 0; j < kGroupSize; ++j) {
          rest[j] *= 3;
          sums[group][j] = static_cast<int16_t>(sums[group][j] * 3 + static_cast<int16_t>(rest[j] >> 8));
          rest[j] &= 0xff;
        }
      }
    }
    for (size_t group = 0; group < kLineGroups; ++group) {
      for (size_t j = 0; j < kGroupSize; ++j) codes[group * kGroupSize + j] = static_cast<int8_t>(sums[group][j] - largest);
    }
    unpack_scales(scales, scale_codes);
  }
}

std::optional<size_t> find_invalid_trit_byte(std::span<const uint8_t> bytes) noexcept {
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (!kIsTritByte[bytes[i]]) return i;
  }
  return std::nullopt;
}

}  // namespace tritllm::codec
