// The integer kernels of every instruction set. The layout is tested by its inverse, the specification by sums written out here,
// and every other table by the specification, bit for bit.
#include "kernels/ternary_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/every_table.h"

namespace tritllm::kernels {

namespace {

using Random = std::mt19937_64;

constexpr TileFormat kAllFormats[] = {TileFormat::kTriples, TileFormat::kFourBits, TileFormat::kFiveBits,
                                      TileFormat::kPairsOf13Bits, TileFormat::kPairsOf7Bits};
static_assert(std::size(kAllFormats) == kTileFormats);
constexpr float kUntouched = 12345.0f;

// What fills codes, activations and scale_codes.
enum class Filling { kRandom, kLargest, kSmallest, kMixedExtremes };
constexpr Filling kFillings[] = {Filling::kRandom, Filling::kLargest, Filling::kSmallest, Filling::kMixedExtremes};

int filled(Filling filling, int largest, Random& random) {
  switch (filling) {
    case Filling::kRandom: return static_cast<int>(random() % static_cast<uint64_t>(2 * largest + 1)) - largest;
    case Filling::kLargest: return largest;
    case Filling::kSmallest: return -largest;
    default: return random() % 2 != 0 ? largest : -largest;
  }
}

struct Matrix {
  ScaleTable scales{};
  TileFormat format;
  size_t rows, groups;
  std::vector<int8_t> codes;         // [rows][groups·16]
  std::vector<uint8_t> scale_codes;  // [rows][groups]
  std::vector<float> steps;          // [27]
  std::vector<uint8_t> blocks;

  Matrix(TileFormat of, size_t row_count, size_t group_count, Filling filling) : format(of), rows(row_count), groups(group_count) {
    Random random(rows * 100 + groups);
    for (size_t i = 0; i < rows * groups * 16; ++i) {
      codes.push_back(static_cast<int8_t>(filled(filling, format_largest_code(format), random)));
    }
    for (size_t i = 0; i < rows * groups; ++i) {
      scale_codes.push_back(filling == Filling::kRandom ? static_cast<uint8_t>(random() % 27) : uint8_t{26});
    }
    for (size_t i = 0; i < 27; ++i) steps.push_back(0.001f * std::pow(1.2f, static_cast<float>(i)));
    scales = make_scale_table(steps.data());
    blocks.resize(view().bytes());
    for (size_t band = 0; band < view().bands(); ++band) {
      const size_t first = band * kBandRows;
      pack_band(
          format,
          {codes.data() + first * groups * 16, scale_codes.data() + first * groups, std::min(kBandRows, rows - first), groups},
          blocks.data() + view().band_offset(band));
    }
  }

  TernaryTiles view() const { return {format, tiles_of(rows), blocks_of(groups * 16), blocks.data(), &scales}; }
};

std::vector<float> random_activations(size_t tokens, size_t columns, Filling filling) {
  Random random(tokens * 1000 + columns);
  std::normal_distribution<float> normal;
  std::vector<float> x;
  for (size_t i = 0; i < tokens * columns; ++i) {
    x.push_back(filling == Filling::kRandom ? normal(random) : static_cast<float>(filled(filling, 127, random)));
  }
  return x;
}

// With values that are zero, nearly so, or no numbers.
std::vector<float> special_activations(Random& random, size_t columns, int round) {
  constexpr float kSpecial[] = {0.0f,   -0.0f, 1e-45f, -1e-38f, 1e-30f, 0.999e-30f, 3.4e38f,  -3.4e38f,
                                127.0f, 0.5f,  1.5f,   -2.5f,   63.5f,  NAN,        INFINITY, -INFINITY};
  std::normal_distribution<float> normal;
  std::vector<float> x(columns);
  for (float& value : x) {
    value = normal(random);
    if (round % 4 == 1) value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (round % 4 == 2 && random() % 4 == 0) value = kSpecial[random() % 13];
    if (round % 4 == 3 && random() % 16 == 0) value = kSpecial[random() % 16];
  }
  return x;
}

// As a table's product wants them.
struct Activations {
  std::vector<ActivationBlock> lines;  // of the cache
  size_t tokens, lines_of_part;

  template <typename Part>
  const Part& part(size_t block, size_t token) const {
    EXPECT_LE(sizeof(Part), lines_of_part * sizeof(ActivationBlock));
    return *reinterpret_cast<const Part*>(lines.data() + (block * tokens + token) * lines_of_part);
  }
};

Activations quantized(const TernaryKernels& kernels, const std::vector<float>& x, size_t tokens, size_t columns,
                      TileFormat format) {
  const TernaryFormatKernels& product = kernels.products[static_cast<size_t>(format)];
  const size_t lines_of_part = product.activation_bytes(tokens) / sizeof(ActivationBlock);
  Activations out{std::vector<ActivationBlock>(blocks_of(columns) * tokens * lines_of_part), tokens, lines_of_part};
  for (size_t token = 0; token < tokens; ++token) {
    product.quantize(x.data() + token * columns, columns, tokens, out.lines.data() + token * lines_of_part, tokens);
  }
  return out;
}

// What the specification makes of an activation.
struct Quantized {
  int value;
  float scale;
};
Quantized quantized_value(const Activations& of_specification, TileFormat format, size_t token, size_t column) {
  const size_t block = column / kTileColumns, place = column % kTileColumns;
  if (format_depth(format) == 1) {
    const auto& part = of_specification.part<FineActivations>(block, token);
    return {part.values[place], part.scale};
  }
  const ActivationGroup& group = of_specification.part<ActivationBlock>(block, token).groups[place / 16];
  return {group.values[place % 16], group.scale};
}

// All rows with those that fill the last tile: [tokens][16·tiles]. Checks that nothing else was written.
std::vector<float> multiplied(const TernaryKernels& kernels, const Matrix& matrix, const Activations& x, size_t tokens) {
  const size_t width = matrix.view().tiles * kTileRows, stride = width + 16;
  std::vector<float> y(tokens * stride, kUntouched), out;
  for (size_t band = 0; band < matrix.view().bands(); ++band) {
    kernels.products[static_cast<size_t>(matrix.format)].multiply(matrix.view(), band, x.lines.data(), tokens, tokens,
                                                                  y.data() + band * kBandRows, stride);
  }
  for (size_t i = 0; i < y.size(); ++i) {
    if (i % stride < width) out.push_back(y[i]);
    else EXPECT_EQ(y[i], kUntouched) << "beside the outputs, at " << i;
  }
  return out;
}

::testing::AssertionResult same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << a.size() << " and " << b.size() << " values";
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      return ::testing::AssertionFailure() << "at " << i << ": " << a[i] << ", " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

class TernaryKernelsTest : public testing::TestWithParam<KernelTable> {
 protected:
  const TernaryKernels& kernels() const { return *GetParam().ternary; }
  const TernaryKernels& specification() const { return *table_named("scalar").ternary; }
  // Those that the table multiplies.
  std::vector<TileFormat> formats() const {
    std::vector<TileFormat> own;
    for (const TileFormat format : kAllFormats) {
      if (kernels().products[static_cast<size_t>(format)].multiply != nullptr) own.push_back(format);
    }
    return own;
  }
  // Those with 8-bit activations, a scale for each group.
  std::vector<TileFormat> formats_with_groups() const {
    std::vector<TileFormat> own = formats();
    std::erase_if(own, [](TileFormat format) { return format_depth(format) == 1; });
    return own;
  }
};

INSTANTIATE_TEST_SUITE_P(Every, TernaryKernelsTest, every_table(), table_name);

// The tables that look up sums of triples: all but the specification.
class TripleSumsTest : public TernaryKernelsTest {};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TripleSumsTest);
INSTANTIATE_TEST_SUITE_P(Every, TripleSumsTest, every_vector_table(), table_name);

TEST(TernaryTiles, UnpackIsTheInverseOfPack) {
  for (const TileFormat format : kAllFormats) {
    for (const Filling filling : kFillings) {
      for (size_t groups = 1; groups <= 7; ++groups) {
        for (const size_t rows : {1u, 2u, 15u, 16u, 17u, 33u, 63u, 64u, 65u, 130u}) {
          const Matrix matrix(format, rows, groups, filling);
          std::vector<int8_t> codes(matrix.codes.size(), 99);
          std::vector<uint8_t> scale_codes(matrix.scale_codes.size(), 99);
          for (size_t band = 0; band < matrix.view().bands(); ++band) {
            const size_t row = band * kBandRows;
            unpack_band(
                format, matrix.blocks.data() + matrix.view().band_offset(band),
                {codes.data() + row * groups * 16, scale_codes.data() + row * groups, std::min(kBandRows, rows - row), groups});
          }
          ASSERT_EQ(codes, matrix.codes) << "format " << static_cast<int>(format) << ", rows " << rows << ", groups " << groups;
          ASSERT_EQ(scale_codes, matrix.scale_codes);
        }
      }
    }
  }
}

TEST(TernaryTiles, AGroupOfDepth1IsThirtyTwoBits) { EXPECT_EQ(block_bytes(TileFormat::kTriples), kTileRows * kTileGroups * 4); }

TEST(TernaryTiles, SqueezingSavesAnEighthOfTheFields) {
  EXPECT_EQ(block_bytes(TileFormat::kFourBits), 256u + 20);
  EXPECT_EQ(block_bytes(TileFormat::kPairsOf7Bits), 224u + 20);
}

TEST(TernaryTiles, UnpacksSingleRows) {
  for (const TileFormat format : kAllFormats) {
    const Matrix matrix(format, 83, 5, Filling::kRandom);
    for (size_t row = 0; row < 83; ++row) {
      std::vector<int8_t> codes(6 * 16);
      std::vector<uint8_t> scale_codes(6);
      for (size_t block = 0; block < 3; ++block) {
        unpack_row(matrix.view(), row, block, codes.data() + block * kTileColumns, scale_codes.data() + block * kTileGroups);
      }
      for (size_t i = 0; i < 80; ++i) ASSERT_EQ(codes[i], matrix.codes[row * 80 + i]);
      for (size_t i = 0; i < 5; ++i) ASSERT_EQ(scale_codes[i], matrix.scale_codes[row * 5 + i]);
      ASSERT_EQ(scale_codes[5], kEmptyScaleCode);
    }
  }
}

TEST(TernaryTiles, WhatIsBeyondTheMatrixHasNoScale) {
  const Matrix matrix(TileFormat::kFourBits, 3, 3, Filling::kRandom);
  std::vector<int8_t> codes(16 * 4 * 16);
  std::vector<uint8_t> scale_codes(16 * 4);
  unpack_band(matrix.format, matrix.blocks.data(), {codes.data(), scale_codes.data(), 16, 4});
  for (size_t row = 0; row < 16; ++row) {
    for (size_t group = 0; group < 4; ++group) {
      if (row < 3 && group < 3) continue;
      EXPECT_EQ(scale_codes[row * 4 + group], kEmptyScaleCode);
    }
  }
  for (size_t entry = kEmptyScaleCode; entry < 32; ++entry) EXPECT_EQ(matrix.scales.multiples[entry], 0);
}

TEST(TernaryTiles, AScaleTableIsTheStepsToHalfAUnit) {
  for (const float magnitude : {1.0f, 1e-30f, 1e37f}) {
    std::vector<float> steps(27);
    for (size_t i = 0; i < 27; ++i) steps[i] = magnitude / 27.0f * static_cast<float>((i * 11 + 3) % 27 + 1);
    const ScaleTable table = make_scale_table(steps.data());
    const double unit = *std::max_element(steps.begin(), steps.end()) / static_cast<double>(kLargestMultiple);
    for (size_t i = 0; i < 27; ++i) {
      EXPECT_NEAR(static_cast<double>(table.multiples[i]) * unit, double{steps[i]}, 0.5001 * unit);
      EXPECT_EQ(table.multiples[i], table.low[i] + 256 * table.high[i]);
    }
    EXPECT_EQ(*std::max_element(table.multiples, table.multiples + 32), kLargestMultiple);
  }
  const std::vector<float> zeros(27, 0.0f);
  const ScaleTable table = make_scale_table(zeros.data());
  EXPECT_EQ(std::count(table.multiples, table.multiples + 32, 0), 32);
  EXPECT_EQ(table.unit, 0.0f);
}

// The largest sum that half a group can have fits in 16 bits, and that of a group, scaled, in 32.
TEST(TernaryKernels, NoSumOverflows) {
  for (const TileFormat format : kAllFormats) {
    if (format_depth(format) == 1) continue;
    const int64_t half = int64_t{std::min(8 * 127, most_in_half(format))} * format_largest_code(format);
    EXPECT_LE(half, std::numeric_limits<int16_t>::max());
    EXPECT_LE(2 * half * kLargestMultiple, std::numeric_limits<int32_t>::max());
  }
  EXPECT_LE(int64_t{kTileGroups} * kMostInFineGroup * kLargestMultiple, std::numeric_limits<int32_t>::max());
}

// The largest magnitude in a table.
int most_of(const int8_t (&table)[16]) {
  const auto [least, most] = std::minmax_element(std::begin(table), std::end(table));
  return std::max(-*least, int{*most});
}

// Whatever the codes, the low parts of a group's sums of triples fit in a signed byte, and the high ones, negated or not.
TEST_P(TripleSumsTest, FitInTheirBytes) {
  Random random(10);
  for (int round = 0; round < 3000; ++round) {
    std::vector<float> x(32);
    for (float& value : x) {
      value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
      if (round % 3 == 1) value = random() % 2 != 0 ? 1.0f : -1.0f;
      if (round % 3 == 2) value = random() % 8 == 0 ? value : value * 0.01f;
    }
    const Activations found = quantized(kernels(), x, 1, 32, TileFormat::kTriples);
    const auto& tables = found.part<TripleSums>(0, 0);
    for (size_t group = 0; group < kTileGroups; ++group) {
      int most_low = 0, most_high = 0, largest = 0;
      for (size_t table = 0; table < kGroupTriples + 1; ++table) {
        const auto &low = tables.low[table][group], &high = tables.high[table][group];
        most_low += most_of(low);
        most_high += most_of(high);
        int most_sum = 0;
        for (size_t number = 0; number < 16; ++number)
          most_sum = std::max(most_sum, std::abs(low[number] + kHighUnit * high[number]));
        largest += most_sum;
      }
      EXPECT_LE(most_low, 127);
      EXPECT_LE(most_high, 127);
      EXPECT_LE(largest, kMostInFineGroup);
    }
  }
}

TEST_P(TripleSumsTest, AreThoseOfTheSpecificationsValues) {
  Random random(11);
  for (int round = 0; round < 2000; ++round) {
    for (const size_t columns : {16u, 32u, 48u, 80u}) {
      const std::vector<float> x = special_activations(random, columns, round);
      const Activations expected = quantized(specification(), x, 1, columns, TileFormat::kTriples);
      const Activations found = quantized(kernels(), x, 1, columns, TileFormat::kTriples);
      for (size_t block = 0; block < blocks_of(columns); ++block) {
        const auto& values = expected.part<FineActivations>(block, 0);
        const auto& tables = found.part<TripleSums>(block, 0);
        ASSERT_TRUE(same_bits({values.scale}, {tables.scale})) << "round " << round;
        for (size_t group = 0; group < kTileGroups; ++group) {
          const int16_t* const of_group = values.values + group * 16;
          const auto sum_at = [&](size_t table, size_t field) {
            return tables.low[table][group][field] + kHighUnit * tables.high[table][group][field];
          };
          for (int number = 0; number <= 13; ++number) {
            const int first = (number + 4) / 9, second = (number - 9 * first + 4) / 3 - 1, third = number - 9 * first - 3 * second;
            for (size_t triple = 0; triple < kGroupTriples; ++triple) {
              const auto& at = kTripleColumns[triple];
              const int sum = first * of_group[at[0]] + second * of_group[at[1]] + third * of_group[at[2]];
              ASSERT_EQ(sum_at(triple, static_cast<size_t>(number)), sum) << "round " << round << ", number " << number;
            }
          }
          for (int code = -1; code <= 1; ++code) {
            ASSERT_EQ(sum_at(kGroupTriples, static_cast<size_t>(code + 2)), code * of_group[15]) << "round " << round;
          }
        }
      }
    }
  }
}

// The finer form at depth 1: a scale for 32, such that the heavier group's magnitudes add to what its sums may be.
TEST(TernaryKernels, FineActivationsAreWithinHalfAStep) {
  const TernaryKernels& specification = *table_named("scalar").ternary;
  for (size_t columns = 16; columns <= 112; columns += 16) {
    const std::vector<float> x = random_activations(1, columns, Filling::kRandom);
    const Activations found = quantized(specification, x, 1, columns, TileFormat::kTriples);
    for (size_t block = 0; block < blocks_of(columns); ++block) {
      const auto& part = found.part<FineActivations>(block, 0);
      int magnitudes[kTileGroups] = {};
      for (size_t i = 0; i < kTileColumns; ++i) {
        const size_t column = block * kTileColumns + i;
        const float expected = column < columns ? x[column] : 0.0f;
        EXPECT_NEAR(part.scale * static_cast<float>(part.values[i]), expected, 0.501f * part.scale);
        magnitudes[i / 16] += std::abs(part.values[i]);
      }
      EXPECT_LE(std::max(magnitudes[0], magnitudes[1]), kMostInFineGroup);
      EXPECT_GE(std::max(magnitudes[0], magnitudes[1]), kMostInFineGroup - 16);
    }
  }
}

// Eight large values in one half leave no room in 16 bits at depth 4: the group gets a larger scale.
TEST_P(TernaryKernelsTest, ValuesThatMeetIn16BitsFitThere) {
  Random random(9);
  for (int round = 0; round < 3000; ++round) {
    std::vector<float> x(16);
    for (size_t i = 0; i < 16; ++i) {
      const float magnitude = 0.6f + 0.4f * static_cast<float>(random() % 1000) / 999.0f;
      x[i] = (random() % 2 != 0 ? magnitude : -magnitude) * (i % 4 / 2 == static_cast<size_t>(round % 2) ? 1.0f : 0.1f);
    }
    for (const TileFormat format : formats_with_groups()) {
      const Activations blocks = quantized(kernels(), x, 1, 16, format);
      const ActivationGroup& group = blocks.part<ActivationBlock>(0, 0).groups[0];
      int magnitudes[2] = {}, largest = 0;
      for (size_t i = 0; i < 16; ++i) {
        magnitudes[i % 4 / 2] += std::abs(group.values[i]);
        largest = std::max(largest, std::abs(group.values[i]));
      }
      EXPECT_LE(std::max(magnitudes[0], magnitudes[1]), most_in_half(format));
      // No larger than it must be.
      if (largest < 127) {
        EXPECT_GE(std::max(magnitudes[0], magnitudes[1]), most_in_half(format) - 8);
      }
    }
  }
}

TEST_P(TernaryKernelsTest, MultipliesTheFormatsItAsksFor) {
  for (int depth = 1; depth <= 4; ++depth) {
    const TileFormat format = kernels().formats[depth - 1];
    EXPECT_EQ(format_depth(format), depth);
    EXPECT_NE(kernels().products[static_cast<size_t>(format)].multiply, nullptr);
  }
}

TEST_P(TernaryKernelsTest, QuantizedActivationsAreWithinHalfAStep) {
  for (const TileFormat format : formats_with_groups()) {
    for (size_t columns = 16; columns <= 112; columns += 16) {
      const std::vector<float> x = random_activations(1, columns, Filling::kRandom);
      const Activations blocks = quantized(kernels(), x, 1, columns, format);
      for (size_t group = 0; group < blocks_of(columns) * kTileGroups; ++group) {
        const ActivationGroup& found = blocks.part<ActivationBlock>(group / kTileGroups, 0).groups[group % kTileGroups];
        int sums[2] = {};
        for (size_t i = 0; i < 16; ++i) {
          const size_t column = group * 16 + i;
          const float expected = column < columns ? x[column] : 0.0f;
          EXPECT_NEAR(found.scale * static_cast<float>(found.values[i]), expected, 0.501f * found.scale);
          sums[i % 4 / 2] += found.values[i];
        }
        const int centre = -format_largest_code(format);
        EXPECT_EQ(found.offset, centre * (sums[0] + sums[1]));
        for (size_t i = 0; i < 2; ++i) EXPECT_EQ(found.offsets[i], centre * sums[i]);
      }
    }
  }
}

TEST_P(TernaryKernelsTest, QuantizesAsTheSpecificationDoes) {
  Random random(5);
  for (const TileFormat format : formats_with_groups()) {
    for (int round = 0; round < 2000; ++round) {
      const std::vector<float> x = special_activations(random, 48, round);
      const Activations expected = quantized(specification(), x, 1, 48, format), found = quantized(kernels(), x, 1, 48, format);
      for (size_t group = 0; group < 4; ++group) {
        const ActivationGroup &a = expected.part<ActivationBlock>(group / 2, 0).groups[group % 2],
                              &b = found.part<ActivationBlock>(group / 2, 0).groups[group % 2];
        ASSERT_EQ(std::memcmp(a.values, b.values, 16), 0) << "round " << round;
        ASSERT_EQ(std::memcmp(a.offsets, b.offsets, sizeof(a.offsets)), 0);
        ASSERT_EQ(a.offset, b.offset);
        ASSERT_TRUE(same_bits({a.scale}, {b.scale})) << "round " << round;
      }
    }
  }
}

TEST_P(TernaryKernelsTest, MultiplyIsTheSumOfProducts) {
  for (const TileFormat format : formats()) {
    for (const Filling filling : kFillings) {
      const Matrix matrix(format, 33, 5, filling);
      const std::vector<float> x = random_activations(3, 80, filling);
      const Activations values = quantized(specification(), x, 3, 80, format);
      const std::vector<float> y = multiplied(kernels(), matrix, quantized(kernels(), x, 3, 80, format), 3);
      for (size_t token = 0; token < 3; ++token) {
        for (size_t row = 0; row < 48; ++row) {
          double sum = 0.0, magnitude = 0.0;
          for (size_t column = 0; column < 80 && row < 33; ++column) {
            const Quantized input = quantized_value(values, format, token, column);
            const double product = matrix.codes[row * 80 + column] *
                                   double{matrix.steps[matrix.scale_codes[row * 5 + column / 16]]} * input.value *
                                   double{input.scale};
            sum += product;
            magnitude += std::abs(product);
          }
          ASSERT_NEAR(double{y[token * 48 + row]}, sum, magnitude * 0x1p-10) << "row " << row << ", token " << token;
        }
      }
    }
  }
}

TEST_P(TernaryKernelsTest, SameBitsAsTheSpecification) {
  for (const TileFormat format : formats()) {
    for (const Filling filling : kFillings) {
      for (const size_t rows : {1u, 16u, 31u, 48u, 64u, 65u, 139u}) {
        for (const size_t groups : {1u, 2u, 5u, 6u}) {
          const Matrix matrix(format, rows, groups, filling);
          for (const size_t tokens : {1u, 2u, 3u, 7u, 17u, 63u, 64u, 65u, 130u}) {
            if ((tokens > 60 && rows > 48) || tokens > kernels().most_exact_tokens) continue;
            const std::vector<float> x = random_activations(tokens, groups * 16, filling);
            const auto product_of = [&](const TernaryKernels& table) {
              return multiplied(table, matrix, quantized(table, x, tokens, groups * 16, format), tokens);
            };
            ASSERT_TRUE(same_bits(product_of(specification()), product_of(kernels())))
                << "format " << static_cast<int>(format) << ", filling " << static_cast<int>(filling) << ", rows " << rows
                << ", groups " << groups << ", tokens " << tokens;
          }
        }
      }
    }
  }
}

// Where many tokens are rounded in another way, the products are nearer to those of the activations themselves.
TEST_P(TernaryKernelsTest, ManyTokensAreTheSumsOfProductsToo) {
  for (const TileFormat format : formats()) {
    for (const size_t rows : {1u, 16u, 31u, 48u, 65u, 139u}) {
      for (const size_t groups : {1u, 2u, 5u, 131u}) {
        const Matrix matrix(format, rows, groups, Filling::kRandom);
        for (const size_t tokens : {16u, 17u, 31u, 32u, 33u, 47u, 64u, 70u}) {
          const size_t columns = groups * 16, width = matrix.view().tiles * kTileRows;
          const std::vector<float> x = random_activations(tokens, columns, Filling::kRandom);
          const std::vector<float> y = multiplied(kernels(), matrix, quantized(kernels(), x, tokens, columns, format), tokens);
          double squares = 0.0, errors = 0.0;
          for (size_t token = 0; token < tokens; ++token) {
            for (size_t row = 0; row < rows; ++row) {
              double sum = 0.0;
              for (size_t column = 0; column < columns; ++column) {
                sum += matrix.codes[row * columns + column] * double{matrix.steps[matrix.scale_codes[row * groups + column / 16]]} *
                       double{x[token * columns + column]};
              }
              squares += sum * sum;
              errors += (sum - double{y[token * width + row]}) * (sum - double{y[token * width + row]});
            }
          }
          ASSERT_LT(std::sqrt(errors / squares), 0.012)
              << "format " << static_cast<int>(format) << ", rows " << rows << ", groups " << groups << ", tokens " << tokens;
        }
      }
    }
  }
}

TEST_P(TernaryKernelsTest, ATokensOutputsDoNotDependOnItsCompany) {
  if (kernels().most_exact_tokens < 70) GTEST_SKIP() << "this table rounds many tokens in another way";
  for (const TileFormat format : formats()) {
    const Matrix matrix(format, 80, 9, Filling::kRandom);
    const std::vector<float> x = random_activations(70, 144, Filling::kRandom);
    const std::vector<float> all = multiplied(kernels(), matrix, quantized(kernels(), x, 70, 144, format), 70);
    for (size_t token = 0; token < 70; token += 3) {
      const std::vector<float> own(x.begin() + static_cast<ptrdiff_t>(token * 144),
                                   x.begin() + static_cast<ptrdiff_t>(token * 144 + 144));
      const auto begin = all.begin() + static_cast<ptrdiff_t>(token * 80);
      ASSERT_TRUE(same_bits(multiplied(kernels(), matrix, quantized(kernels(), own, 1, 144, format), 1), {begin, begin + 80}));
    }
  }
}

// A damaged model must not look like a healthy one, and one token's damage is not another's.
TEST_P(TernaryKernelsTest, WhatIsNoNumberStaysNone) {
  for (const TileFormat format : formats()) {
    const Matrix matrix(format, 16, 4, Filling::kRandom);
    for (const size_t tokens : {1u, 3u, 20u}) {
      for (const float damage : {NAN, INFINITY}) {
        std::vector<float> x = random_activations(tokens, 64, Filling::kRandom);
        const std::vector<float> healthy = multiplied(kernels(), matrix, quantized(kernels(), x, tokens, 64, format), tokens);
        x[(tokens - 1) * 64 + 37] = damage;
        const std::vector<float> y = multiplied(kernels(), matrix, quantized(kernels(), x, tokens, 64, format), tokens);
        for (size_t i = 0; i < y.size(); ++i) {
          if (i / 16 == tokens - 1) EXPECT_FALSE(std::isfinite(y[i])) << "tokens " << tokens;
          else EXPECT_EQ(y[i], healthy[i]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace tritllm::kernels
