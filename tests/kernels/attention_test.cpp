// Attention of every instruction set against formulas in double precision that are written out here, over keys and values that are
// put into the cache's layout by this file's own arithmetic, so that the scalar table is under test like the others.
#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/every_table.h"

namespace tritllm::kernels {

namespace {

using Random = std::mt19937_64;

constexpr CacheType kEveryType[] = {CacheType::kFloat32, CacheType::kFloat16, CacheType::kFloat8, CacheType::kInt8};
constexpr float kUnit = 0x1p-24f;  // relative error of one float32 operation
constexpr float kUntouched = 12345.0f;
constexpr float kGarbage = std::numeric_limits<float>::quiet_NaN();  // where nobody may look
constexpr uint16_t kHalfGarbage = 0x7e00;
constexpr uint8_t kByteGarbage = 0x7f;  // with a scale that is garbage too

class AttentionTest : public testing::TestWithParam<KernelTable> {
 protected:
  const TensorKernels& kernels() const { return *GetParam().tensors; }
};

INSTANTIATE_TEST_SUITE_P(Every, AttentionTest, every_table(), table_name);

// A half float of magnitude in [0.125, 2) and its value.
uint16_t random_half(Random& random) { return static_cast<uint16_t>((random() << 15) | (0x3000 + random() % 0x1000)); }
float value_of_half(uint16_t bits) {
  const float magnitude = std::ldexp(static_cast<float>(1024 + (bits & 1023)), (bits >> 10 & 31) - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// Of a normal half, infinity or NaN.
uint16_t bits_of_half(float value) {
  if (std::isnan(value)) return kHalfGarbage;
  if (std::isinf(value)) return static_cast<uint16_t>(std::signbit(value) ? 0xfc00 : 0x7c00);
  int exponent = 0;
  const float fraction = std::frexp(std::abs(value), &exponent);
  const int mantissa = static_cast<int>(fraction * 2048.0f) - 1024;
  return static_cast<uint16_t>((std::signbit(value) ? 0x8000 : 0) | (exponent + 14) << 10 | mantissa);
}

// FP8 by its definition.
float value_of_float8(uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  const float magnitude =
      exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9) : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}
float value_of_byte(CacheType type, uint8_t code) {
  return type == CacheType::kInt8 ? static_cast<float>(static_cast<int8_t>(code)) : value_of_float8(code);
}

std::vector<float> random_vector(size_t count, uint64_t seed, float spread) {
  Random random(seed);
  std::normal_distribution<float> normal(0.0f, std::abs(spread));
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

void expect_same_bits(std::span<const float> found, std::span<const float> expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(found[i]), std::bit_cast<uint32_t>(expected[i])) << what << ", element " << i;
  }
}

struct State {
  std::vector<float> sums, largest, totals;

  State(size_t rows, size_t stride) : sums(rows * stride + 16, kUntouched), largest(rows, kUntouched), totals(rows, kUntouched) {}
  AttentionState view() { return {sums.data(), largest.data(), totals.data()}; }

  std::vector<float> result(size_t row, size_t stride) const {
    std::vector<float> out(sums.begin() + static_cast<long>(row * stride), sums.begin() + static_cast<long>((row + 1) * stride));
    for (float& value : out) value /= totals[row];
    return out;
  }
};

// Rows of queries and the keys and values of some positions, plainly. Those of eight bits have their codes and scales beside them.
struct Attention {
  struct Bytes {
    std::vector<uint8_t> codes;    // [positions][stride]
    std::vector<uint16_t> scales;  // [positions]
  };

  size_t stride, positions;
  float softcap;
  CacheType type;
  std::vector<PositionRange> seen;  // one for each row, of all positions
  std::vector<float> queries;       // [rows][stride]
  std::vector<float> keys, values;  // [positions][stride]
  Bytes key_bytes = {}, value_bytes = {};

  size_t rows() const { return seen.size(); }

  // What lies where no position was written is garbage.
  State attend(const TensorKernels& kernels, size_t span = 0) const {
    const size_t first = span * kSpanPositions, count = std::min(positions - first, kSpanPositions);
    const size_t padded = (count + kCacheTile - 1) / kCacheTile * kCacheTile, value_stride = padded + kCacheTile;
    std::vector<float> key_tiles(padded * stride, kGarbage), value_strips(value_stride * stride, kGarbage);
    std::vector<uint16_t> half_keys(padded * stride, kHalfGarbage), half_values(value_stride * stride, kHalfGarbage);
    std::vector<uint8_t> byte_keys(padded * stride, kByteGarbage), byte_values(value_stride * stride, kByteGarbage);
    std::vector<uint16_t> key_scales(padded, kHalfGarbage), value_scales(padded, kHalfGarbage);
    for (size_t p = 0; p < count; ++p) {
      for (size_t i = 0; i < stride; ++i) {
        const size_t key = (p / 16 * stride + i) * 16 + p % 16, value = (i / 16 * value_stride + p) * 16 + i % 16,
                     plain = (first + p) * stride + i;
        key_tiles[key] = keys[plain];
        value_strips[value] = values[plain];
        half_keys[key] = bits_of_half(key_tiles[key]);
        half_values[value] = bits_of_half(value_strips[value]);
        if (has_scales(type)) byte_keys[key] = key_bytes.codes[plain], byte_values[value] = value_bytes.codes[plain];
      }
      if (has_scales(type)) key_scales[p] = key_bytes.scales[first + p], value_scales[p] = value_bytes.scales[first + p];
    }
    const auto of_type = [&](const auto& floats, const auto& halves, const auto& bytes) -> const void* {
      if (type == CacheType::kFloat32) return floats.data();
      if (type == CacheType::kFloat16) return halves.data();
      return bytes.data();
    };
    std::vector<PositionRange> within;
    for (const PositionRange& range : seen) {
      const size_t begin = std::clamp<size_t>(range.first, first, first + count) - first,
                   end = std::clamp<size_t>(range.end, first, first + count) - first;
      if (begin < end) within.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
      else within.push_back({0, 0});
    }
    State state(rows(), stride);
    std::vector<float> scores(rows() * kScoreStride + 16, kUntouched), panel(attention_panel_floats(stride) + 16, kUntouched);
    kernels.attend[static_cast<size_t>(type)]({.queries = queries.data(),
                                               .seen = within.data(),
                                               .rows = rows(),
                                               .head_stride = stride,
                                               .keys = of_type(key_tiles, half_keys, byte_keys),
                                               .values = of_type(value_strips, half_values, byte_values),
                                               .value_stride = value_stride,
                                               .key_scales = has_scales(type) ? key_scales.data() : nullptr,
                                               .value_scales = has_scales(type) ? value_scales.data() : nullptr,
                                               .softcap = softcap,
                                               .scores = scores.data(),
                                               .panel = panel.data(),
                                               .state = state.view()});
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(scores[rows() * kScoreStride + i], kUntouched);
      EXPECT_EQ(panel[attention_panel_floats(stride) + i], kUntouched);
      EXPECT_EQ(state.sums[rows() * stride + i], kUntouched);
    }
    return state;
  }

  // Of all spans.
  State run(const TensorKernels& kernels) const {
    State all = attend(kernels);
    for (size_t span = 1; span * kSpanPositions < positions; ++span) {
      State one = attend(kernels, span);
      kernels.merge(one.view(), rows(), stride, all.view());
    }
    return all;
  }

  // With the bound of the error that float32 scores allow.
  void expect_right(const TensorKernels& kernels) const {
    const State state = run(kernels);
    for (size_t row = 0; row < rows(); ++row) {
      std::vector<double> weights;
      double largest = -std::numeric_limits<double>::infinity(), error = 0.0, most = 0.0, total = 0.0;
      for (size_t p = seen[row].first; p < seen[row].end; ++p) {
        double score = 0.0, magnitude = 0.0;
        for (size_t i = 0; i < stride; ++i) {
          const double product = double{queries[row * stride + i]} * double{keys[p * stride + i]};
          score += product;
          magnitude += std::abs(product);
        }
        error = std::max(error, magnitude * double{kUnit} * static_cast<double>(stride));
        if (softcap > 0.0f) score = double{softcap} * std::tanh(score / double{softcap});
        weights.push_back(score);
        largest = std::max(largest, score);
      }
      error += (std::abs(largest) + double{softcap}) * 16.0 * double{kUnit};
      for (double& weight : weights) total += weight = std::exp(weight - largest);
      for (const float value : values) most = std::max(most, std::abs(double{value}));
      const double bound = (2.0 * std::expm1(2.0 * error) + static_cast<double>(weights.size() + 16) * double{kUnit}) * most;
      const std::vector<float> out = state.result(row, stride);
      for (size_t i = 0; i < stride; ++i) {
        double expected = 0.0;
        for (size_t p = 0; p < weights.size(); ++p) {
          expected += weights[p] / total * double{values[(seen[row].first + p) * stride + i]};
        }
        ASSERT_NEAR(double{out[i]}, expected, bound)
            << "rows " << rows() << ", stride " << stride << ", seen from " << seen[row].first << " to " << seen[row].end
            << ", softcap " << softcap << ", cache " << static_cast<int>(type) << ", row " << row << ", element " << i;
      }
    }
  }

  // One row by itself.
  Attention alone(size_t row) const {
    Attention other = *this;
    other.seen = {seen[row]};
    other.queries.assign(queries.begin() + static_cast<long>(row * stride),
                         queries.begin() + static_cast<long>((row + 1) * stride));
    return other;
  }
};

Attention make_attention(std::vector<PositionRange> seen, size_t stride, float softcap, CacheType type, float spread = 1.0f) {
  uint32_t positions = 1;
  for (const PositionRange& range : seen) positions = std::max(positions, range.end);
  Random random(seen.size() * 1000 + stride + positions);
  Attention attention{stride, positions, softcap, type, std::move(seen), {}, {}, {}};
  attention.queries = random_vector(attention.rows() * stride, random(), 2.0f * spread / std::sqrt(static_cast<float>(stride)));
  for (auto [rows, bytes] :
       {std::pair{&attention.keys, &attention.key_bytes}, std::pair{&attention.values, &attention.value_bytes}}) {
    if (!has_scales(type)) {
      for (size_t i = 0; i < positions * stride; ++i) rows->push_back(value_of_half(random_half(random)));
      continue;
    }
    // Scales that make the largest code count between 1/2 and 8.
    const float largest = type == CacheType::kInt8 ? 0x1p7f : 0x1p9f;
    for (size_t i = 0; i < positions * stride; ++i) {
      if (i % stride == 0) bytes->scales.push_back(bits_of_half(std::abs(value_of_half(random_half(random))) * 4.0f / largest));
      auto code = static_cast<uint8_t>(random());
      if (type == CacheType::kFloat8 && (code & 0x7f) == 0x7f) code ^= 1;  // NaN
      bytes->codes.push_back(code);
      rows->push_back(value_of_byte(type, code) * value_of_half(bytes->scales.back()));
    }
  }
  return attention;
}

// What the heads of consecutive tokens see, the first of which is at `position`.
std::vector<PositionRange> neighbours(uint32_t position, uint32_t tokens, uint32_t heads, uint32_t window) {
  std::vector<PositionRange> seen;
  for (uint32_t token = 0; token < tokens; ++token) {
    const uint32_t end = position + token + 1;
    seen.insert(seen.end(), heads, {window != 0 && end > window ? end - window : 0, end});
  }
  return seen;
}

TEST_P(AttentionTest, EveryNumberOfPositionsAndWidth) {
  for (const CacheType type : kEveryType) {
    for (const float softcap : {0.0f, 0.5f, 2.0f, 50.0f}) {
      for (uint32_t positions = 1; positions <= 70; ++positions) {
        const size_t rows = 1 + positions % 15, stride = 16 * (1 + positions % 9);
        make_attention(std::vector<PositionRange>(rows, {0, positions}), stride, softcap, type).expect_right(kernels());
      }
      for (size_t stride = 16; stride <= 272; stride += 16) {
        make_attention(std::vector<PositionRange>(3, {0, 37}), stride, softcap, type).expect_right(kernels());
      }
    }
  }
}

TEST_P(AttentionTest, RowsThatSeeDifferently) {
  for (const CacheType type : kEveryType) {
    for (const uint32_t window : {0u, 1u, 5u, 16u, 23u, 300u, 600u}) {
      for (const uint32_t position : {0u, 11u, 255u, 300u, 505u, 1030u}) {
        for (const uint32_t heads : {1u, 3u, 4u}) {
          make_attention(neighbours(position, 20, heads, window), 48, 0.0f, type).expect_right(kernels());
        }
      }
    }
    // Not only rows in order.
    make_attention({{0, 3}, {40, 41}, {7, 30}, {0, 64}, {16, 32}, {15, 17}, {0, 1}, {63, 64}}, 80, 3.0f, type)
        .expect_right(kernels());
  }
}

TEST_P(AttentionTest, CompanyDoesNotMatter) {
  for (const CacheType type : kEveryType) {
    for (const float softcap : {0.0f, 4.0f}) {
      for (const uint32_t window : {0u, 5u, 40u, 530u}) {
        for (const uint32_t position : {0u, 50u, 500u, 1020u}) {
          for (const uint32_t rows : {2u, 5u, 7u, 13u, 26u}) {
            const Attention together = make_attention(neighbours(position, rows, 1 + rows % 3, window), 80, softcap, type);
            const State all = together.run(kernels());
            for (size_t row = 0; row < together.rows(); ++row) {
              const State one = together.alone(row).run(kernels());
              const auto what = testing::PrintToString(rows) + " tokens from " + testing::PrintToString(position) + ", window " +
                                testing::PrintToString(window) + ", row " + testing::PrintToString(row);
              expect_same_bits(std::span(all.sums).subspan(row * 80, 80), std::span(one.sums).first(80), what + ", sums");
              expect_same_bits(std::span(all.totals).subspan(row, 1), one.totals, what + ", total");
              expect_same_bits(std::span(all.largest).subspan(row, 1), one.largest, what + ", largest");
            }
          }
        }
      }
    }
  }
}

TEST_P(AttentionTest, SpansThatARowDoesNotSeeLeaveItAsItIs) {
  const Attention attention = make_attention({{0, 20}, {600, 610}, {500, 520}}, 32, 0.0f, CacheType::kFloat32);
  attention.expect_right(kernels());
  State none = attention.attend(kernels(), 1);
  EXPECT_EQ(none.totals[0], 0.0f);
  State first = attention.attend(kernels());
  const State before = first;
  kernels().merge(none.view(), 1, 32, first.view());
  expect_same_bits(first.sums, before.sums, "sums");
  expect_same_bits(first.totals, before.totals, "totals");
}

TEST_P(AttentionTest, ScoresWhoseExponentialsOverflow) {
  for (const CacheType type : kEveryType) {
    for (const float spread : {100.0f, 3000.0f}) {
      for (const uint32_t positions : {21u, 1100u}) {
        make_attention(std::vector<PositionRange>(2, {0, positions}), 32, 0.0f, type, spread).expect_right(kernels());
      }
    }
  }
  // All scores alike and huge: the mean of the values, whatever the sign.
  for (const float query : {1e4f, -1e4f}) {
    Attention attention = make_attention({{0, 19}}, 16, 0.0f, CacheType::kFloat32);
    std::fill(attention.queries.begin(), attention.queries.end(), query);
    std::fill(attention.keys.begin(), attention.keys.end(), 1.0f);
    const std::vector<float> out = attention.run(kernels()).result(0, 16);
    for (size_t i = 0; i < 16; ++i) {
      double mean = 0.0;
      for (size_t p = 0; p < 19; ++p) mean += double{attention.values[p * 16 + i]} / 19.0;
      EXPECT_NEAR(double{out[i]}, mean, 1e-5);
    }
  }
}

// A damaged model must not look like a healthy one: what is no number stays none.
TEST_P(AttentionTest, NaNNeverBecomesANumber) {
  const auto expect_none = [&](const Attention& attention, const std::string& what) {
    const State state = attention.run(kernels());
    for (size_t row = 0; row < attention.rows(); ++row) {
      for (const float value : state.result(row, attention.stride)) ASSERT_TRUE(std::isnan(value)) << what << ", row " << row;
    }
  };
  for (const float softcap : {0.0f, 5.0f}) {
    for (const size_t position : {0u, 7u, 20u, 520u}) {
      Attention attention = make_attention(std::vector<PositionRange>(8, {0, 530}), 32, softcap, CacheType::kFloat32);
      attention.keys[position * 32 + 5] = NAN;
      expect_none(attention, "key " + std::to_string(position) + ", softcap " + std::to_string(softcap));
    }
    for (const CacheType type : {CacheType::kFloat8, CacheType::kInt8}) {
      Attention scaled = make_attention(std::vector<PositionRange>(8, {0, 530}), 32, softcap, type);
      scaled.value_bytes.scales[521] = kHalfGarbage;
      expect_none(scaled, "scale of a value");
      scaled = make_attention(std::vector<PositionRange>(8, {0, 530}), 32, softcap, type);
      scaled.key_bytes.scales[7] = kHalfGarbage;
      expect_none(scaled, "scale of a key");
    }
    Attention attention = make_attention({{0, 9}}, 16, softcap, CacheType::kFloat32);
    attention.queries[3] = NAN;
    expect_none(attention, "query, softcap " + std::to_string(softcap));
  }
}

// Later tokens of the same task, and what an earlier text left in the cache, may be no numbers.
TEST_P(AttentionTest, WhatARowDoesNotSeeDoesNotMatter) {
  for (const CacheType type : kEveryType) {
    const Attention clean = make_attention(neighbours(40, 16, 2, 9), 32, 0.0f, type);
    const State expected = clean.run(kernels());
    Attention damaged = clean;
    for (const size_t position : {20u, 50u}) {
      std::fill_n(damaged.keys.begin() + static_cast<long>(position * 32), 32, NAN);
      std::fill_n(damaged.values.begin() + static_cast<long>(position * 32), 32, INFINITY);
      if (has_scales(type)) damaged.key_bytes.scales[position] = damaged.value_bytes.scales[position] = kHalfGarbage;
    }
    const State found = damaged.run(kernels());
    for (size_t row = 0; row < clean.rows(); ++row) {
      if (clean.seen[row].first <= 50 && clean.seen[row].end > 50) continue;
      expect_same_bits(std::span(found.sums).subspan(row * 32, 32), std::span(expected.sums).subspan(row * 32, 32),
                       "row " + std::to_string(row));
    }
  }
}

}  // namespace
}  // namespace tritllm::kernels
