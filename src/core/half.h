// Owns the conversions between float32 and the two 16-bit float formats, in portable code that any compiler can vectorise.
// Rounding is to nearest, ties to even. Does not own bulk conversion of tensors (io/source_tensor.h).
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

}  // namespace tritllm
