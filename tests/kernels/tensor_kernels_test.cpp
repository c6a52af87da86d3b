// The forward pass's inner loops of every instruction set, against formulas in double precision that are written out here: weights
// are decoded by this file's own arithmetic, so that the scalar table is under test like the others.
#include "kernels/tensor_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/every_table.h"

namespace tritllm::kernels {

namespace {

using Random = std::mt19937_64;

constexpr WeightType kAllWeightTypes[] = {WeightType::kFloat32, WeightType::kFloat16, WeightType::kBFloat16, WeightType::kCodes};
constexpr float kUnit = 0x1p-24f;  // relative error of one float32 operation
constexpr float kTiniest = std::numeric_limits<float>::denorm_min();
constexpr float kUntouched = 12345.0f;

class TensorKernelsTest : public testing::TestWithParam<KernelTable> {
 protected:
  const TensorKernels& kernels() const { return *GetParam().tensors; }
};

INSTANTIATE_TEST_SUITE_P(Every, TensorKernelsTest, every_table(), table_name);

double value_of_half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

// What fills a matrix.
enum class Filling { kRandom, kExtreme, kTiny };
constexpr Filling kFillings[] = {Filling::kRandom, Filling::kExtreme, Filling::kTiny};

// Weights of one type with the values that they mean, by this file's arithmetic.
struct Matrix {
  WeightType type;
  size_t rows, stride;
  std::vector<float> floats;
  std::vector<uint16_t> halves;
  std::vector<int8_t> codes;
  std::vector<uint8_t> scale_codes;
  std::vector<float> steps;
  std::vector<float> decoded;  // [rows][stride]

  WeightRows view() const {
    const void* const values = type == WeightType::kFloat32 ? static_cast<const void*>(floats.data())
                               : type == WeightType::kCodes ? static_cast<const void*>(codes.data())
                                                            : static_cast<const void*>(halves.data());
    return {type, values, stride, scale_codes.data(), steps.data()};
  }
};

float random_float(Filling filling, Random& random) {
  const float normal = std::normal_distribution<float>()(random);
  if (filling == Filling::kRandom) return normal;
  if (filling == Filling::kTiny) return normal * 1e-39f;  // a denormal number
  constexpr float kChoices[] = {0.0f, -0.0f, 1e30f, -1e30f, 1e-30f, 1.0f, -3.0f, 3e33f};
  return kChoices[random() % 8];
}

uint16_t random_half(Filling filling, Random& random) {
  const auto sign = static_cast<uint16_t>(random() << 15);
  if (filling == Filling::kRandom) return static_cast<uint16_t>(sign | (random() % 0x7c00));
  if (filling == Filling::kTiny) return static_cast<uint16_t>(sign | (random() % 0x400));
  constexpr uint16_t kChoices[] = {0x7bff, 0x0001, 0x03ff,
                                   0x0400, 0x0000, 0x3c00};  // 65504, subnormal ones, the least normal, 0, 1
  return static_cast<uint16_t>(sign | kChoices[random() % 6]);
}

uint16_t random_bfloat16(Filling filling, Random& random) {
  if (filling == Filling::kExtreme) return static_cast<uint16_t>(random() << 15 | (random() % 2 != 0 ? 0x7a00u : 0x0001u));
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(random_float(filling, random)) >> 16);
}

float random_step(Filling filling, size_t entry) {
  if (filling == Filling::kRandom) return 0.01f * static_cast<float>(entry + 1);
  if (filling == Filling::kTiny) return kTiniest * static_cast<float>(entry + 1);
  return entry % 2 == 0 ? 1e30f : 1e-38f;
}

Matrix make_matrix(WeightType type, Filling filling, size_t rows, size_t stride, uint64_t seed) {
  Random random(seed);
  Matrix matrix{type, rows, stride, {}, {}, {}, {}, {}, {}};
  for (size_t entry = 0; entry < 27; ++entry) matrix.steps.push_back(random_step(filling, entry));
  for (size_t group = 0; group < rows * stride / 16; ++group) matrix.scale_codes.push_back(static_cast<uint8_t>(random() % 27));
  for (size_t i = 0; i < rows * stride; ++i) {
    if (type == WeightType::kFloat32) {
      matrix.floats.push_back(random_float(filling, random));
      matrix.decoded.push_back(matrix.floats.back());
    } else if (type == WeightType::kFloat16) {
      matrix.halves.push_back(random_half(filling, random));
      matrix.decoded.push_back(static_cast<float>(value_of_half(matrix.halves.back())));
    } else if (type == WeightType::kBFloat16) {
      matrix.halves.push_back(random_bfloat16(filling, random));
      matrix.decoded.push_back(std::bit_cast<float>(uint32_t{matrix.halves.back()} << 16));
    } else {
      const int code = filling == Filling::kExtreme && i % 3 == 0 ? (i % 2 == 0 ? 40 : -40) : static_cast<int>(random() % 81) - 40;
      matrix.codes.push_back(static_cast<int8_t>(code));
      matrix.decoded.push_back(static_cast<float>(code * double{matrix.steps[matrix.scale_codes[i / 16]]}));
    }
  }
  return matrix;
}

std::vector<float> random_vector(size_t count, uint64_t seed, float scale = 1.0f) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = scale * std::normal_distribution<float>()(random);
  return values;
}

// All outputs for some tokens and some rows, as one call gives them: [tokens][rows]. Checks that nothing else was written.
std::vector<float> multiplied(const TensorKernels& kernels, const Matrix& matrix, size_t first_row, size_t rows, const float* x,
                              size_t tokens) {
  const size_t y_stride = rows + 3;
  std::vector<float> panel(rows * matrix.stride + 16, kUntouched), y(tokens * y_stride + 16, kUntouched);
  kernels.multiply[static_cast<size_t>(matrix.type)](matrix.view(), first_row, rows, x, tokens, panel.data(), y.data(), y_stride);
  for (size_t i = rows * matrix.stride; i < panel.size(); ++i) EXPECT_EQ(panel[i], kUntouched) << "beyond the panel";
  std::vector<float> out;
  for (size_t i = 0; i < y.size(); ++i) {
    if (i < tokens * y_stride && i % y_stride < rows) out.push_back(y[i]);
    else EXPECT_EQ(y[i], kUntouched) << "beside the outputs, at " << i;
  }
  return out;
}

void expect_same_bits(std::span<const float> a, std::span<const float> b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(a[i]), std::bit_cast<uint32_t>(b[i])) << what << ", at " << i << ": " << a[i] << ", " << b[i];
  }
}

TEST_P(TensorKernelsTest, ExpandsRowsExactly) {
  for (const WeightType type : kAllWeightTypes) {
    for (const Filling filling : kFillings) {
      const Matrix matrix = make_matrix(type, filling, 5, 112, 1);
      for (size_t row = 0; row < matrix.rows; ++row) {
        std::vector<float> out(matrix.stride + 16, kUntouched);
        kernels().expand_row[static_cast<size_t>(type)](matrix.view(), row, out.data());
        expect_same_bits(std::span(out).first(112), std::span(matrix.decoded).subspan(row * 112, 112), "row");
        for (size_t i = 112; i < out.size(); ++i) EXPECT_EQ(out[i], kUntouched);
      }
    }
  }
}

TEST_P(TensorKernelsTest, MultiplyIsTheSumOfProducts) {
  constexpr size_t kMostRows = 33, kMostTokens = 13;
  for (const WeightType type : kAllWeightTypes) {
    for (const Filling filling : kFillings) {
      for (size_t stride = 16; stride <= 112; stride += 16) {
        const Matrix matrix = make_matrix(type, filling, kMostRows + 2, stride, stride);
        const std::vector<float> x = random_vector(kMostTokens * stride, 7, filling == Filling::kExtreme ? 0.01f : 1.0f);
        for (size_t tokens = 0; tokens <= kMostTokens; ++tokens) {
          const size_t rows = 1 + (tokens * 5 + stride) % kMostRows, first_row = tokens % 3;
          const auto y = multiplied(kernels(), matrix, first_row, rows, x.data(), tokens);
          for (size_t i = 0; i < y.size(); ++i) {
            double sum = 0.0, magnitude = 0.0;
            for (size_t column = 0; column < stride; ++column) {
              const double product =
                  double{matrix.decoded[(first_row + i % rows) * stride + column]} * double{x[i / rows * stride + column]};
              sum += product;
              magnitude += std::abs(product);
            }
            ASSERT_NEAR(double{y[i]}, sum, (magnitude * kUnit + kTiniest) * static_cast<double>(stride))
                << "type " << static_cast<int>(type) << ", filling " << static_cast<int>(filling) << ", stride " << stride
                << ", tokens " << tokens << ", output " << i;
          }
        }
      }
    }
  }
}

TEST_P(TensorKernelsTest, EveryNumberOfRows) {
  const Matrix matrix = make_matrix(WeightType::kCodes, Filling::kRandom, 33, 48, 3);
  const std::vector<float> x = random_vector(48 * 13, 4);
  for (const size_t tokens : {1u, 2u, 3u, 4u, 5u, 13u}) {
    const auto all = multiplied(kernels(), matrix, 0, 33, x.data(), tokens);
    for (size_t rows = 1; rows <= 33; ++rows) {
      const auto some = multiplied(kernels(), matrix, 33 - rows, rows, x.data(), tokens);
      for (size_t token = 0; token < tokens; ++token) {
        expect_same_bits(std::span(some).subspan(token * rows, rows), std::span(all).subspan(token * 33 + 33 - rows, rows), "rows");
      }
    }
  }
}

TEST_P(TensorKernelsTest, ATokensOutputsDoNotDependOnItsCompany) {
  constexpr size_t kRows = 29, kTokens = 17;
  Random random(11);
  for (const WeightType type : kAllWeightTypes) {
    for (const size_t stride : {16u, 80u, 112u}) {
      const Matrix matrix = make_matrix(type, Filling::kRandom, kRows, stride, 5);
      const std::vector<float> x = random_vector(kTokens * stride, 6);
      std::vector<std::vector<float>> alone;
      for (size_t token = 0; token < kTokens; ++token)
        alone.push_back(multiplied(kernels(), matrix, 0, kRows, &x[token * stride], 1));
      for (int trial = 0; trial < 60; ++trial) {
        const size_t tokens = 1 + random() % 13, first = random() % (kTokens - tokens + 1);
        for (size_t row = 0; row < kRows;) {  // rows split at random
          const size_t rows = std::min<size_t>(1 + random() % 12, kRows - row);
          const auto part = multiplied(kernels(), matrix, row, rows, &x[first * stride], tokens);
          for (size_t token = 0; token < tokens; ++token) {
            expect_same_bits(std::span(part).subspan(token * rows, rows), std::span(alone[first + token]).subspan(row, rows),
                             "token among " + std::to_string(tokens));
          }
          row += rows;
        }
      }
    }
  }
}

TEST_P(TensorKernelsTest, ATernaryMatrixIsTheDenseMatrixOfItsWeights) {
  for (const Filling filling : kFillings) {
    const Matrix ternary = make_matrix(WeightType::kCodes, filling, 19, 96, 8);
    Matrix dense = ternary;
    dense.type = WeightType::kFloat32;
    dense.floats = ternary.decoded;
    const std::vector<float> x = random_vector(13 * 96, 9, 0.01f);
    for (size_t tokens = 1; tokens <= 13; ++tokens) {
      expect_same_bits(multiplied(kernels(), ternary, 0, 19, x.data(), tokens),
                       multiplied(kernels(), dense, 0, 19, x.data(), tokens), "tokens " + std::to_string(tokens));
    }
  }
}

TEST_P(TensorKernelsTest, RmsNorm) {
  for (const float scale : {1.0f, 1e-12f, 1e12f}) {
    for (size_t width = 1; width <= 100; width += width < 40 ? 1 : 15) {
      const std::vector<float> x = random_vector(width, width, scale), gain = random_vector(width, width + 1000);
      std::vector<float> out(width + 16, kUntouched), in_place = x;
      const float epsilon = 1e-5f;
      kernels().rms_norm(x.data(), gain.data(), width, epsilon, out.data());
      kernels().rms_norm(in_place.data(), gain.data(), width, epsilon, in_place.data());
      double squares = 0.0;
      for (const float value : x) squares += double{value} * double{value};
      for (size_t i = 0; i < width; ++i) {
        const double expected = double{x[i]} * double{gain[i]} / std::sqrt(squares / static_cast<double>(width) + double{epsilon});
        EXPECT_NEAR(double{out[i]}, expected, std::abs(expected) * double{kUnit} * static_cast<double>(width + 6))
            << "width " << width;
      }
      expect_same_bits(in_place, std::span(out).first(width), "in place");
      for (size_t i = width; i < out.size(); ++i) EXPECT_EQ(out[i], kUntouched);
    }
  }
}

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu: return x / (1.0 + std::exp(-x));
    case Activation::kGeluTanh: return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kGeluErf: return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case Activation::kReluSquared: return x < 0.0 ? 0.0 : x * x;
  }
  return NAN;
}

TEST_P(TensorKernelsTest, Gate) {
  std::vector<float> x{0.0f, -0.0f, kTiniest, -kTiniest};
  for (const float magnitude :
       {1e-30f, 1e-3f, 0.7f, 5.0f, 17.0f, 40.0f, 86.9f, 87.4f, 88.6f, 88.8f, 89.5f, 104.0f, 1e4f, 1e10f, 1e20f}) {
    x.push_back(magnitude);
    x.push_back(-magnitude);
  }
  for (int i = 0; i < 649; ++i) x.push_back(-12.0f + 0.037f * static_cast<float>(i));
  const std::vector<float> up = random_vector(x.size(), 1);
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf, Activation::kReluSquared}) {
    const auto gate = kernels().gate[static_cast<size_t>(activation)];
    std::vector<float> out(x.size());
    gate(x.data(), up.data(), x.size(), out.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = activated(activation, double{x[i]}) * double{up[i]};
      if (activation == Activation::kReluSquared && x[i] > 1e19f) {
        EXPECT_TRUE(std::isinf(out[i]));
        continue;
      }
      // 1 + tanh and 1 + erf cancel below 0, which leaves a unit of 1 times x; the others' errors are relative.
      const bool cancels = activation == Activation::kGeluTanh || activation == Activation::kGeluErf;
      const double bound = cancels ? std::abs(double{x[i]} * double{up[i]}) * 6e-7 : std::abs(expected) * 1e-6 + 1e-17;
      EXPECT_NEAR(double{out[i]}, expected, bound + double{kTiniest})
          << "activation " << static_cast<int>(activation) << " of " << x[i];
    }
    const std::vector<float> none(40, NAN), one(40, 1.0f);
    gate(none.data(), one.data(), none.size(), out.data());
    for (size_t i = 0; i < none.size(); ++i) EXPECT_TRUE(std::isnan(out[i])) << "activation " << static_cast<int>(activation);
    gate(x.data(), up.data(), x.size(), out.data());
    // Neither the width nor the place in a row matters, and the output may be an input.
    for (size_t width = 1; width <= 40; ++width) {
      const size_t first = width * 7;
      std::vector<float> part(width + 16, kUntouched),
          over_gate(x.begin() + static_cast<long>(first), x.begin() + static_cast<long>(first + width)),
          over_up(up.begin() + static_cast<long>(first), up.begin() + static_cast<long>(first + width));
      gate(&x[first], &up[first], width, part.data());
      expect_same_bits(std::span(part).first(width), std::span(out).subspan(first, width), "width");
      for (size_t i = width; i < part.size(); ++i) EXPECT_EQ(part[i], kUntouched);
      gate(over_gate.data(), &up[first], width, over_gate.data());
      gate(&x[first], over_up.data(), width, over_up.data());
      expect_same_bits(over_gate, std::span(part).first(width), "over the gate");
      expect_same_bits(over_up, std::span(part).first(width), "over the other input");
    }
  }
}

// A damaged model must not look like a healthy one: what is no number stays none.
TEST_P(TensorKernelsTest, NaNNeverBecomesANumber) {
  for (const auto gate : kernels().gate) {
    for (const size_t width : {1u, 16u, 21u}) {
      const std::vector<float> x(width, NAN), up(width, 1.0f);
      std::vector<float> out(width);
      gate(x.data(), up.data(), width, out.data());
      for (const float value : out) EXPECT_TRUE(std::isnan(value));
    }
  }
  std::vector<float> x = random_vector(20, 1), out(20);
  x[19] = NAN;
  kernels().rms_norm(x.data(), random_vector(20, 2).data(), 20, 1e-5f, out.data());
  for (const float value : out) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace tritllm::kernels
