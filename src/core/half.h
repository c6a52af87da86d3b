// Owns the conversions between float32 and the shorter float formats, in portable code that any compiler can vectorise.
// Rounding is to nearest, ties to even, unless a name says otherwise. Does not own bulk conversion of tensors (io/source_tensor.h).
#pragma once

#include <bit>
#include <cstdint>

namespace tritllm {

inline constexpr float kLargestHalf = 65504.0f;

inline float float_from_bfloat16(uint16_t bits) noexcept { return std::bit_cast<float>(uint32_t{bits} << 16); }

inline uint16_t bfloat16_from_float(float value) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);  // NaN stays NaN
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float float_from_half(uint16_t bits) noexcept {
  const uint32_t sign = (uint32_t{bits} & 0x8000u) << 16;
  const uint32_t magnitude = uint32_t{bits} & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  // Placing the half's exponent and mantissa 13 bits up makes a float that is 2^112 times too small, subnormals included.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | sign);
}

// Values that round beyond 65504 become infinity, as in IEEE 754.
inline uint16_t half_from_float(float value) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {
    // Subnormal half: adding 0.5 shifts the value so that the float adder rounds it at the bit that is worth 2^-24.
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

// The least half that is not below a positive value; NaN for NaN, infinity beyond 65504.
inline uint16_t half_not_below(float value) noexcept {
  const uint16_t nearest = half_from_float(value);
  return float_from_half(nearest) < value ? static_cast<uint16_t>(nearest + 1) : nearest;
}

// FP8 E4M3 (Micikevicius et al. 2022, arXiv:2209.05433): four bits of exponent with bias 7, three of mantissa, no infinities.
inline constexpr float kLargestFloat8 = 448.0f;

inline float float_from_float8(uint8_t bits) noexcept {
  const uint32_t sign = uint32_t{bits & 0x80u} << 24, magnitude = bits & 0x7fu;
  if (magnitude == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);  // the one NaN of each sign
  // As the upper bits of a float32, the exponent is too small by 127 − 7; subnormals included.
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 20) * 0x1p120f));
}

// Values beyond 448 become 448, and NaN becomes 0.
inline uint8_t float8_from_float(float value) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 24 & 0x80u;
  const float magnitude = std::bit_cast<float>(bits & 0x7fffffffu);
  if (!(magnitude < kLargestFloat8)) return static_cast<uint8_t>(magnitude >= kLargestFloat8 ? sign | 0x7eu : 0u);
  if (magnitude < 0x1p-6f) {
    // Subnormal: adding 2^14 shifts the value so that the float adder rounds it at the bit that is worth 2^-9.
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(magnitude + 0x1p14f) - std::bit_cast<uint32_t>(0x1p14f)));
  }
  const uint32_t whole = std::bit_cast<uint32_t>(magnitude), rounded = whole + 0x7ffffu + (whole >> 20 & 1u);
  return static_cast<uint8_t>(sign | ((rounded >> 20) - ((127u - 7u) << 3)));
}

}  // namespace tritllm
