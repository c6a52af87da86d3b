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

// The base-3 digit of worth 3^position of each of 16 numbers below 81: (n·m >> 16) with m = ⌈65536 / 3^position⌉ is the quotient.
template <unsigned kPosition>
void add_digit(const uint8_t* numbers, unsigned weight, uint16_t* sums) noexcept {
  constexpr uint32_t kDivisor = kPowersOfThree[kPosition];
  constexpr uint32_t kReciprocal = (65536 + kDivisor - 1) / kDivisor;
  constexpr uint32_t kThird = (65536 + 2) / 3;
  for (size_t j = 0; j < kGroupSize; ++j) {
    const uint32_t quotient = kPosition == 0 ? numbers[j] : numbers[j] * kReciprocal >> 16;
    const uint32_t digit = quotient - (quotient * kThird >> 16) * 3;
    sums[j] = static_cast<uint16_t>(sums[j] + digit * weight);
  }
}

void add_digit(unsigned position, const uint8_t* numbers, unsigned weight, uint16_t* sums) noexcept {
  switch (position) {
    case 0: return add_digit<0>(numbers, weight, sums);
    case 1: return add_digit<1>(numbers, weight, sums);
    case 2: return add_digit<2>(numbers, weight, sums);
    default: return add_digit<3>(numbers, weight, sums);
  }
}

void pack_scales(const uint8_t* entries, uint8_t* scales) noexcept {
  for (size_t plane = 0; plane < kScaleTrits; ++plane) {
    unsigned digits = 0;
    for (size_t group = 0; group < kLineGroups; ++group) {
      digits += entries[group] / kPowersOfThree[kScaleTrits - 1 - plane] % 3 * kPowersOfThree[group];
    }
    scales[plane] = byte_from_digits(digits);
  }
}

void unpack_scales(const uint8_t* scales, uint8_t* entries) noexcept {
  for (size_t group = 0; group < kLineGroups; ++group) {
    unsigned entry = 0;
    for (size_t plane = 0; plane < kScaleTrits; ++plane) {
      entry = entry * 3 + digits_from_byte(scales[plane]) / kPowersOfThree[group] % 3;
    }
    entries[group] = static_cast<uint8_t>(entry);
  }
}

}  // namespace

void pack_lines(size_t lines, int depth, const int8_t* codes, const uint8_t* entries, std::span<uint8_t* const> planes,
                uint8_t* scales) noexcept {
  const int largest = largest_code(depth);
  for (size_t line = 0; line < lines; ++line, codes += kLineGroups * kGroupSize, entries += kLineGroups, scales += kScaleTrits) {
    // Adding H turns balanced digits −1..1 into ordinary ones 0..2.
    uint8_t numbers[kLineGroups][kGroupSize];
    for (size_t group = 0; group < kLineGroups; ++group) {
      for (size_t j = 0; j < kGroupSize; ++j) numbers[group][j] = static_cast<uint8_t>(codes[group * kGroupSize + j] + largest);
    }
    for (unsigned plane = 0; plane < planes.size(); ++plane) {
      uint16_t sums[kGroupSize] = {};
      for (size_t group = 0; group < kLineGroups; ++group) {
        add_digit(static_cast<unsigned>(depth) - 1 - plane, numbers[group], kPowersOfThree[group], sums);
      }
      uint8_t* const out = planes[plane] + line * kGroupSize;
      for (size_t j = 0; j < kGroupSize; ++j) out[j] = byte_from_digits(sums[j]);
    }
    pack_scales(entries, scales);
  }
}

void unpack_lines(size_t lines, int depth, std::span<const uint8_t* const> planes, const uint8_t* scales, int8_t* codes,
                  uint8_t* entries) noexcept {
  const int largest = largest_code(depth);
  for (size_t line = 0; line < lines; ++line, codes += kLineGroups * kGroupSize, entries += kLineGroups, scales += kScaleTrits) {
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
    unpack_scales(scales, entries);
  }
}

std::optional<size_t> find_invalid_trit_byte(std::span<const uint8_t> bytes) noexcept {
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (!kIsTritByte[bytes[i]]) return i;
  }
  return std::nullopt;
}

}  // namespace tritllm::codec
