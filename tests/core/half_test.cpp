// Owns the cases of core/half.h. The oracle shares no code with it: it decodes by the definition of IEEE 754 in double
// precision, and rounds by looking at the two neighbours among all finite 16-bit values.
#include "core/half.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tritllm {
namespace {

// A 16-bit float of `exponent_bits`, by definition. Not for infinities and NaN.
double decode(uint32_t bits, int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>((bits & 0x7fffu) >> mantissa_bits);
  const double mantissa = std::ldexp(static_cast<double>(bits & ((1u << mantissa_bits) - 1)), -mantissa_bits);
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias) : std::ldexp(1 + mantissa, exponent - bias);
  return (bits & 0x8000u) != 0 ? -magnitude : magnitude;
}

// All non-negative finite values in ascending order: value i has the bits i. The last entry is the first value beyond them,
// where the next binade would begin: what rounds to it is infinite, and its bits are infinity's.
std::vector<double> ascending_values(int exponent_bits) {
  const uint32_t infinity = 0x7fffu & ~((1u << (15 - exponent_bits)) - 1);
  std::vector<double> values;
  for (uint32_t bits = 0; bits <= infinity; ++bits) values.push_back(decode(bits, exponent_bits));
  return values;
}

uint16_t nearest(float value, const std::vector<double>& values) {
  const double magnitude = std::fabs(static_cast<double>(value));
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000u : 0u);
  const auto above = static_cast<uint32_t>(std::lower_bound(values.begin(), values.end(), magnitude) - values.begin());
  if (above == values.size()) return static_cast<uint16_t>(sign | (values.size() - 1));
  if (above == 0) return sign;
  const uint32_t below = above - 1;
  const double to_above = values[above] - magnitude, to_below = magnitude - values[below];
  const bool up = to_above < to_below || (to_above == to_below && above % 2 == 0);
  return static_cast<uint16_t>(sign | (up ? above : below));
}

// Every value, every midpoint between two, the floats next to these, and random bit patterns of all magnitudes.
std::vector<float> interesting_floats(const std::vector<double>& values) {
  std::vector<float> floats;
  for (size_t i = 0; i + 1 < values.size(); ++i) {
    for (const double centre : {values[i], (values[i] + values[i + 1]) / 2}) {
      const auto value = static_cast<float>(centre);
      for (const float near : {value, std::nextafter(value, 0.0f), std::nextafter(value, std::numeric_limits<float>::max())}) {
        floats.push_back(near);
        floats.push_back(-near);
      }
    }
  }
  std::mt19937 random(1);
  while (floats.size() < 500000) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isfinite(value)) floats.push_back(value);
  }
  return floats;
}

TEST(Half, EveryBitPatternDecodesByTheDefinition) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const float value = float_from_half(static_cast<uint16_t>(bits));
    ASSERT_EQ(std::signbit(value), (bits & 0x8000u) != 0) << bits;
    if ((bits & 0x7c00u) != 0x7c00u) {
      ASSERT_EQ(static_cast<double>(value), decode(bits, 5)) << bits;
    } else {
      ASSERT_EQ(std::isinf(value), (bits & 0x3ffu) == 0) << bits;
      ASSERT_EQ(std::isnan(value), (bits & 0x3ffu) != 0) << bits;
    }
  }
}

TEST(Half, EveryBitPatternSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const uint16_t back = half_from_float(float_from_half(static_cast<uint16_t>(bits)));
    const bool is_nan = (bits & 0x7fffu) > 0x7c00u;
    ASSERT_EQ(back, is_nan ? ((bits & 0x8000u) | 0x7e00u) : bits);
  }
}

TEST(Half, RoundsToNearestTiesToEven) {
  const std::vector<double> values = ascending_values(5);
  for (const float value : interesting_floats(values)) ASSERT_EQ(half_from_float(value), nearest(value, values)) << value;
}

TEST(Half, EdgesOfTheRange) {
  EXPECT_EQ(float_from_half(0x7bff), kLargestHalf);
  EXPECT_EQ(half_from_float(65519.996f), 0x7bff);
  EXPECT_EQ(half_from_float(65520.0f), 0x7c00);
  EXPECT_EQ(half_from_float(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(half_from_float(0x1p-25f), 0x0000);  // halfway between zero and the smallest subnormal: even is zero
  EXPECT_EQ(half_from_float(0x1.000002p-25f), 0x0001);
  EXPECT_EQ(half_from_float(-0.0f), 0x8000);
  EXPECT_TRUE(std::isnan(float_from_half(half_from_float(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Bfloat16, EveryBitPatternSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const uint16_t back = bfloat16_from_float(float_from_bfloat16(static_cast<uint16_t>(bits)));
    const bool is_nan = (bits & 0x7fffu) > 0x7f80u;
    ASSERT_EQ(back, is_nan ? (bits | 0x40u) : bits);
  }
}

TEST(Bfloat16, EveryFiniteBitPatternDecodesByTheDefinition) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    if ((bits & 0x7f80u) == 0x7f80u) continue;
    ASSERT_EQ(static_cast<double>(float_from_bfloat16(static_cast<uint16_t>(bits))), decode(bits, 8)) << bits;
  }
}

TEST(Bfloat16, RoundsToNearestTiesToEven) {
  const std::vector<double> values = ascending_values(8);
  for (const float value : interesting_floats(values)) ASSERT_EQ(bfloat16_from_float(value), nearest(value, values)) << value;
}

TEST(Bfloat16, NanStaysNanWhereItsPayloadIsCutOff) {
  EXPECT_TRUE(std::isnan(float_from_bfloat16(bfloat16_from_float(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_EQ(bfloat16_from_float(std::numeric_limits<float>::infinity()), 0x7f80);
}

// FP8 E4M3 by its definition, for the 127 codes that are numbers and not negative.
std::vector<double> ascending_float8_values() {
  std::vector<double> values;
  for (int code = 0; code < 0x7f; ++code) {
    const int exponent = code >> 3, mantissa = code & 7;
    values.push_back(exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10));
  }
  return values;
}

TEST(Float8, DecodesByDefinition) {
  const std::vector<double> values = ascending_float8_values();
  for (size_t code = 0; code < values.size(); ++code) {
    EXPECT_EQ(double{float_from_float8(static_cast<uint8_t>(code))}, values[code]) << code;
    EXPECT_EQ(double{float_from_float8(static_cast<uint8_t>(code | 0x80))}, -values[code]) << code;
  }
  EXPECT_TRUE(std::isnan(float_from_float8(0x7f)) && std::isnan(float_from_float8(0xff)));
}

TEST(Float8, RoundsToNearestEvenAndStaysAtTheLargest) {
  const std::vector<double> values = ascending_float8_values();
  for (const float value : interesting_floats(values)) {
    if (std::isnan(value)) continue;
    const uint16_t expected =
        std::fabs(value) >= 448.0f ? static_cast<uint16_t>(0x7e | (std::signbit(value) ? 0x8000 : 0)) : nearest(value, values);
    ASSERT_EQ(float8_from_float(value), static_cast<uint8_t>((expected & 0x7f) | (expected >> 8 & 0x80))) << value;
  }
  EXPECT_EQ(float8_from_float(INFINITY), 0x7e);
  EXPECT_EQ(float8_from_float(NAN), 0);
}

TEST(HalfNotBelow, IsTheLeastOne) {
  const std::vector<double> values = ascending_values(5);
  for (const float value : interesting_floats(values)) {
    if (!(value > 0.0f)) continue;
    const auto expected = static_cast<size_t>(std::lower_bound(values.begin(), values.end() - 1, double{value}) - values.begin());
    ASSERT_EQ(half_not_below(value), expected) << value;
  }
  EXPECT_NE(half_not_below(NAN) & 0x3ff, 0);
}

}  // namespace
}  // namespace tritllm
