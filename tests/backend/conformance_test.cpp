// What every backend must do, operation by operation, against formulas in double precision, in odd sizes. Rows go in and come out
// by write() and read() alone. Attention and the choice of tokens have files of their own beside this one.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "backend/device_under_test.h"
#include "backend/random_ternary.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

class Conformance : public DeviceTest {};

INSTANTIATE_TEST_SUITE_P(Devices, Conformance, testing::ValuesIn(device_kinds()), device_name);

TEST_P(Conformance, RowsKeepWhatIsWritten) {
  const auto buffer = device.empty(5, 37);
  EXPECT_EQ(device.values(buffer), std::vector<float>(5 * 37, 0.0f));
  const std::vector<float> x = random_values(3 * 37, 1);
  device->write(x, Rows{buffer.get(), 1, 3});
  EXPECT_EQ(device.values(Rows{buffer.get(), 1, 3}), x);
  std::vector<float> all(37, 0.0f);
  all.insert(all.end(), x.begin(), x.end());
  all.resize(5 * 37, 0.0f);
  EXPECT_EQ(device.values(buffer), all);
}

TEST_P(Conformance, EmbedScales) {
  const std::vector<float> table = random_values(50 * 37, 1);
  const RandomTernary ternary(3, 50, 37);
  TestStep inputs = TestStep::of_one(5);
  inputs.tokens = {49, 0, 7, 7, 23};
  const auto step = inputs.begin(device);
  for (const bool packed : {false, true}) {
    const auto matrix = packed ? device->upload_matrix(ternary.matrix) : device.matrix(table, 37);
    const std::vector<float>& expected = packed ? ternary.expected : table;
    for (const float scale : {1.0f, 6.25f}) {
      const auto rows = device.empty(5, 37);
      device->embed(*matrix, *step, scale, first_rows(rows, 5));
      const std::vector<float> out = device.values(rows);
      for (size_t i = 0; i < out.size(); ++i) {
        const double value = double{expected[inputs.tokens[i / 37] * 37 + i % 37]} * double{scale};
        ASSERT_NEAR(double{out[i]}, value, GetParam().float_error * std::max(1.0, std::abs(value))) << i;
      }
    }
  }
}

// Projections of several kinds that share an input, with and without a norm before, biases, and outputs that are added to; rows
// that leave a tile unfilled, columns that leave a block unfilled.
TEST_P(Conformance, Multiply) {
  constexpr size_t kWidth = 77;
  const RandomTernary ternaries[] = {{1, 33, kWidth}, {2, 150, kWidth}, {3, 16, kWidth}, {4, 65, kWidth}, {2, 1, kWidth}};
  const std::vector<float> dense = random_values(70 * kWidth, 1), bias = random_values(70, 2), gain = random_values(kWidth, 3);
  struct Case {
    std::unique_ptr<DeviceMatrix> matrix;
    const std::vector<float>* weights;
    bool ternary;
  };
  std::vector<Case> cases;
  for (const RandomTernary& one : ternaries) cases.push_back({device->upload_matrix(one.matrix), &one.expected, true});
  cases.push_back({device.matrix(dense, kWidth), &dense, false});
  const auto gains = device->upload_vector(gain);
  const Norm norm{gains.get(), 1e-3f};
  for (const size_t tokens : {1u, 2u, 5u, 9u, 17u, 70u}) {
    const std::vector<float> x = random_values(tokens * kWidth, tokens);
    const auto input = device.rows(kWidth, x);
    for (const bool with_norm : {false, true}) {
      for (const bool adds : {false, true}) {
        std::vector<std::unique_ptr<DeviceVector>> biases;
        std::vector<std::unique_ptr<RowBuffer>> outputs;
        std::vector<std::vector<float>> before;
        std::vector<Projection> projections;
        for (size_t k = 0; k < cases.size(); ++k) {
          const auto rows = static_cast<size_t>(cases[k].matrix->rows());
          biases.push_back(device->upload_vector(std::span(bias).first(std::min(rows, bias.size()))));
          before.push_back(random_values(tokens * rows, 40 + k));
          outputs.push_back(device.rows(rows, before.back()));
          const bool biased = k % 2 == 1 && rows <= bias.size();
          projections.push_back({cases[k].matrix.get(), biased ? biases[k].get() : nullptr, first_rows(outputs[k], tokens), adds});
        }
        device->multiply(first_rows(input, tokens), with_norm ? &norm : nullptr, projections);
        const std::vector<double> normed_x = with_norm ? normed(x, kWidth, gain, 1e-3) : std::vector<double>(x.begin(), x.end());
        for (size_t k = 0; k < cases.size(); ++k) {
          const auto rows = static_cast<size_t>(cases[k].matrix->rows());
          const std::vector<float> out = device.values(outputs[k]);
          double squares = 0.0, errors = 0.0;
          for (size_t i = 0; i < out.size(); ++i) {
            const size_t token = i / rows, row = i % rows;
            double sum = (adds ? double{before[k][i]} : 0.0) + (projections[k].bias != nullptr ? double{bias[row]} : 0.0);
            for (size_t c = 0; c < kWidth; ++c) {
              const double product = double{(*cases[k].weights)[row * kWidth + c]} * normed_x[token * kWidth + c];
              sum += product;
              squares += product * product;
            }
            errors += (sum - double{out[i]}) * (sum - double{out[i]});
          }
          EXPECT_LT(std::sqrt(errors / squares), cases[k].ternary ? GetParam().ternary_error : GetParam().dense_error)
              << "matrix " << k << ", tokens " << tokens << ", norm " << with_norm << ", adds " << adds;
        }
      }
    }
  }
}

// What damages one token must not reach the others, nor what later operations read beside its row.
TEST_P(Conformance, NaNStaysInItsRow) {
  constexpr size_t kWidth = 40, kRows = 33;
  for (int depth = 1; depth <= 4; ++depth) {
    const RandomTernary first(depth, kRows, kWidth), second(depth, kWidth, kRows);
    const std::unique_ptr<DeviceMatrix> matrices[] = {device->upload_matrix(first.matrix), device->upload_matrix(second.matrix)};
    for (const size_t tokens : {1u, 3u, 20u}) {
      std::vector<float> x = random_values(tokens * kWidth, tokens);
      x.back() = NAN;
      const auto input = device.rows(kWidth, x), middle = device.empty(tokens, kRows), output = device.empty(tokens, kWidth);
      device->multiply(first_rows(input, tokens), nullptr,
                       std::array{Projection{matrices[0].get(), nullptr, first_rows(middle, tokens)}});
      device->multiply(first_rows(middle, tokens), nullptr,
                       std::array{Projection{matrices[1].get(), nullptr, first_rows(output, tokens)}});
      const std::vector<float> values = device.values(output);
      for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(std::isnan(values[i]), i / kWidth == tokens - 1) << "depth " << depth;
    }
  }
}

// Two halves of rows lie side by side, two halves of columns add up.
TEST_P(Conformance, SlicesOfAMatrixGiveTheWhole) {
  constexpr size_t kWidth = 100, kRows = 90, kTokens = 3;
  const RandomTernary ternary(2, kRows, kWidth);
  const std::vector<float> dense = random_values(kRows * kWidth, 1), x = random_values(kTokens * kWidth, 2);
  for (const bool packed : {false, true}) {
    const WeightSource source = packed ? WeightSource(ternary.matrix, false) : device.source(dense, kWidth);
    const auto whole = device->upload_matrix(source);
    const auto input = device.rows(kWidth, x), expected = device.empty(kTokens, kRows);
    device->multiply(first_rows(input, kTokens), nullptr,
                     std::array{Projection{whole.get(), nullptr, first_rows(expected, kTokens)}});
    const std::vector<float> all = device.values(expected);
    const double error = (packed ? GetParam().ternary_error : GetParam().dense_error) * std::sqrt(double{kWidth}) * 10.0;

    const auto upper = device->upload_matrix(source, {.rows = 37}), lower = device->upload_matrix(source, {.first_row = 37});
    EXPECT_EQ(upper->rows(), 37u);
    EXPECT_EQ(lower->rows(), kRows - 37);
    const auto a = device.empty(kTokens, 37), b = device.empty(kTokens, kRows - 37);
    device->multiply(first_rows(input, kTokens), nullptr,
                     std::array{Projection{upper.get(), nullptr, first_rows(a, kTokens)},
                                Projection{lower.get(), nullptr, first_rows(b, kTokens)}});
    const std::vector<float> above = device.values(a), below = device.values(b);
    for (size_t i = 0; i < all.size(); ++i) {
      const size_t token = i / kRows, row = i % kRows;
      ASSERT_EQ(row < 37 ? above[token * 37 + row] : below[token * (kRows - 37) + row - 37], all[i]);
    }

    const auto left = device->upload_matrix(source, {.columns = 48}), right = device->upload_matrix(source, {.first_column = 48});
    EXPECT_EQ(left->columns(), 48u);
    EXPECT_EQ(right->columns(), kWidth - 48);
    std::vector<float> left_x, right_x;
    for (size_t token = 0; token < kTokens; ++token) {
      const auto row = x.begin() + static_cast<std::ptrdiff_t>(token * kWidth);
      left_x.insert(left_x.end(), row, row + 48);
      right_x.insert(right_x.end(), row + 48, row + kWidth);
    }
    const auto sum = device.empty(kTokens, kRows), left_in = device.rows(48, left_x), right_in = device.rows(kWidth - 48, right_x);
    device->multiply(first_rows(left_in, kTokens), nullptr, std::array{Projection{left.get(), nullptr, first_rows(sum, kTokens)}});
    device->multiply(first_rows(right_in, kTokens), nullptr,
                     std::array{Projection{right.get(), nullptr, first_rows(sum, kTokens), /*adds=*/true}});
    const std::vector<float> added = device.values(sum);
    for (size_t i = 0; i < all.size(); ++i) ASSERT_NEAR(double{added[i]}, double{all[i]}, error);
  }
}

TEST_P(Conformance, SlicesThatDoNotLieInTheMatrixAreRefused) {
  const RandomTernary ternary(2, 10, 100);
  for (const MatrixSlice& slice : {MatrixSlice{.first_row = 11},
                                   {.first_row = 5, .rows = 6},
                                   {.first_column = 8},
                                   {.columns = 8},
                                   {.first_column = 96, .columns = 16},
                                   {.first_column = UINT64_MAX - 15, .columns = 32}}) {
    expect_error(ErrorCode::kUsage, "slice", [&] { device->upload_matrix(ternary.matrix, slice); });
  }
}

TEST_P(Conformance, GateAndSoftCap) {
  constexpr size_t kWidth = 53, kTokens = 400;
  const std::vector<float> gate = random_values(kTokens * kWidth, 1), up = random_values(kTokens * kWidth, 2);
  const auto expected = [](Activation activation, double x) {
    switch (activation) {
      case Activation::kSilu: return x / (1.0 + std::exp(-x));
      case Activation::kGeluErf: return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
      case Activation::kGeluTanh: return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
      case Activation::kReluSquared: return x < 0.0 ? 0.0 : x * x;
    }
    return 0.0;
  };
  for (const Activation activation : {Activation::kSilu, Activation::kGeluErf, Activation::kGeluTanh, Activation::kReluSquared}) {
    const auto a = device.rows(kWidth, gate), b = device.rows(kWidth, up);
    device->gate(activation, first_rows(a, kTokens), first_rows(b, kTokens), first_rows(a, kTokens));
    const std::vector<float> out = device.values(a);
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(double{out[i]}, expected(activation, double{gate[i]}) * double{up[i]}, GetParam().float_error * 5.0);
    }
  }
  const auto rows = device.rows(kWidth, gate);
  device->soft_cap(first_rows(rows, kTokens), 0.7f);
  const std::vector<float> capped = device.values(rows);
  for (size_t i = 0; i < capped.size(); ++i) {
    ASSERT_NEAR(double{capped[i]}, double{0.7f} * std::tanh(double{gate[i]} / double{0.7f}), GetParam().float_error);
  }
}

TEST_P(Conformance, MultiplyGatedIsBothOperations) {
  for (const size_t width : {77u, 1100u}) {
    for (const int depth : {0, 1, 2, 3, 4}) {
      constexpr size_t kRows = 150;
      const std::vector<float> dense = random_values(kRows * width, 1), gain = random_values(width, 3),
                               bias = random_values(kRows, 4);
      // Two parts of one matrix.
      const RandomTernary ternary(std::max(depth, 1), 2 * kRows, width);
      const auto matrix = [&](uint64_t seed) {
        if (depth == 0) return device.matrix(random_values(kRows * width, seed), width);
        return device->upload_matrix(ternary.matrix, {.first_row = kRows * (seed % 2), .rows = kRows});
      };
      const auto gate_weights = matrix(5), up_weights = matrix(6);
      const auto gains = device->upload_vector(gain), biases = device->upload_vector(bias);
      const Norm norm{gains.get(), 1e-3f};
      for (const size_t tokens : {1u, 3u, 200u}) {
        const auto input = device.rows(width, random_values(tokens * width, 7));
        for (const Activation activation :
             {Activation::kSilu, Activation::kGeluErf, Activation::kGeluTanh, Activation::kReluSquared}) {
          const bool normed_and_biased = activation != Activation::kGeluErf;
          const Norm* const used = normed_and_biased ? &norm : nullptr;
          const DeviceVector* const added = normed_and_biased ? biases.get() : nullptr;
          const auto a = device.empty(tokens, kRows), b = device.empty(tokens, kRows), c = device.empty(tokens, kRows),
                     d = device.empty(tokens, kRows);
          const Projection parts[] = {{gate_weights.get(), added, first_rows(a, tokens)},
                                      {up_weights.get(), nullptr, first_rows(b, tokens)}};
          device->multiply(first_rows(input, tokens), used, parts);
          device->gate(activation, first_rows(a, tokens), first_rows(b, tokens), first_rows(a, tokens));
          device->multiply_gated(first_rows(input, tokens), used, {gate_weights.get(), added, first_rows(c, tokens)},
                                 {up_weights.get(), nullptr, first_rows(d, tokens)}, activation);
          const std::vector<float> expected = device.values(a), found = device.values(c);
          for (size_t i = 0; i < found.size(); ++i) {
            ASSERT_NEAR(found[i], expected[i], 1e-3 * std::max(1.0f, std::abs(expected[i])))
                << "depth " << depth << ", element " << i;
          }
        }
      }
    }
  }
}

// Rows of very different sizes; some of zeros, or so small that the least step counts.
TEST_P(Conformance, InputsAreRoundedToEightBitsOfARow) {
  constexpr size_t kWidth = 77, kRows = 40, kTokens = 37;
  const std::vector<float> weights = random_values(kRows * kWidth, 1), gain = random_values(kWidth, 2);
  std::vector<float> x = random_values(kTokens * kWidth, 3);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= std::ldexp(1.0f, static_cast<int>(i / kWidth % 9) * 4 - 24);
  std::fill_n(x.begin() + 5 * kWidth, kWidth, 0.0f);
  const auto matrix = device.matrix(weights, kWidth);
  const auto gains = device->upload_vector(gain);
  const Norm norm{gains.get(), 1e-5f};
  for (const auto& [used, tokens] : {std::pair<const Norm*, size_t>{nullptr, kTokens}, {&norm, kTokens}, {&norm, 1}}) {
    const auto input = device.rows(kWidth, x), a = device.empty(kTokens, kRows), b = device.empty(kTokens, kRows);
    const Projection projections[] = {{matrix.get(), nullptr, first_rows(a, tokens), false, true},
                                      {matrix.get(), nullptr, first_rows(b, tokens), false, true}};
    device->multiply(first_rows(input, tokens), used, projections);
    EXPECT_EQ(device.values(input), x);
    const std::vector<float> found = device.values(a);
    EXPECT_EQ(device.values(b), found);
    for (size_t token = 0; token < tokens; ++token) {
      const std::vector<float> row(x.begin() + static_cast<std::ptrdiff_t>(token * kWidth),
                                   x.begin() + static_cast<std::ptrdiff_t>((token + 1) * kWidth));
      std::vector<double> values(row.begin(), row.end());
      if (used != nullptr) values = normed(row, kWidth, gain, 1e-5);
      double largest = 1e-5;
      for (const double value : values) largest = std::max(largest, std::abs(value));
      // A value next to the edge between two steps may go either way.
      size_t uncertain = 0;
      for (double& value : values) {
        const double steps = value * 127.0 / largest;
        if (std::abs(std::abs(steps - std::floor(steps)) - 0.5) < 1e-3) ++uncertain;
        value = std::nearbyint(steps) * largest / 127.0;
      }
      for (size_t r = 0; r < kRows; ++r) {
        double expected = 0.0, size = 0.0;
        for (size_t i = 0; i < kWidth; ++i) {
          expected += values[i] * double{weights[r * kWidth + i]};
          size += std::abs(values[i] * double{weights[r * kWidth + i]});
        }
        const double error = size * GetParam().dense_error + static_cast<double>(uncertain) * 4.0 * largest / 127.0;
        ASSERT_NEAR(double{found[token * kRows + r]}, expected, error) << "token " << token << ", row " << r;
      }
    }
  }
}

TEST_P(Conformance, AddNormedAndGather) {
  constexpr size_t kWidth = 53, kTokens = 400;
  const std::vector<float> x = random_values(kTokens * kWidth, 1), to = random_values(kTokens * kWidth, 2),
                           gain = random_values(kWidth, 3);
  const auto gains = device->upload_vector(gain);
  const auto a = device.rows(kWidth, x), b = device.rows(kWidth, to);
  device->add_normed(first_rows(a, kTokens), {gains.get(), 1e-3f}, first_rows(b, kTokens));
  EXPECT_EQ(device.values(a), x);
  const std::vector<float> sums = device.values(b);
  const std::vector<double> added = normed(x, kWidth, gain, 1e-3);
  for (size_t i = 0; i < sums.size(); ++i) ASSERT_NEAR(double{sums[i]}, double{to[i]} + added[i], GetParam().float_error * 5.0);

  TestStep inputs = TestStep::of_one(kTokens);
  inputs.scored = {0, 17, 18, 200, 399};
  const auto step = inputs.begin(device);
  EXPECT_EQ(step->scored(), 5u);
  const auto out = device.empty(3, kWidth);
  device->gather(first_rows(a, kTokens), *step, 2, first_rows(out, 3));
  const std::vector<float> gathered = device.values(out);
  for (size_t i = 0; i < gathered.size(); ++i) ASSERT_EQ(gathered[i], x[inputs.scored[2 + i / kWidth] * kWidth + i % kWidth]);
}

TEST_P(Conformance, MomentsAreSumsOverAllRows) {
  constexpr size_t kWidth = 21, kTokens = 33;
  const std::vector<float> x = random_values(kTokens * kWidth, 1), gain = random_values(kWidth, 2);
  const auto gains = device->upload_vector(gain);
  const Norm norm{gains.get(), 1e-3f};
  const auto rows = device.rows(kWidth, x);
  for (const bool with_norm : {false, true}) {
    const std::vector<double> input = with_norm ? normed(x, kWidth, gain, 1e-3) : std::vector<double>(x.begin(), x.end());
    const auto squares = device->make_moments(kWidth, MomentKind::kSquares),
               products = device->make_moments(kWidth, MomentKind::kOuterProduct);
    for (const auto& [first, count] : {std::pair{0, 20}, {20, 13}}) {  // in two parts
      const Rows part = first_rows(rows, kTokens).slice(static_cast<size_t>(first), static_cast<size_t>(count));
      device->add_moments(part, with_norm ? &norm : nullptr, *squares);
      device->add_moments(part, with_norm ? &norm : nullptr, *products);
    }
    std::vector<double> found(kWidth), matrix(kWidth * kWidth);
    device->read(*squares, found);
    device->read(*products, matrix);
    for (size_t i = 0; i < kWidth; ++i) {
      for (size_t j = 0; j < kWidth; ++j) {
        double sum = 0.0;
        for (size_t row = 0; row < kTokens; ++row) sum += input[row * kWidth + i] * input[row * kWidth + j];
        ASSERT_NEAR(matrix[i * kWidth + j], sum, GetParam().float_error * 30.0);
        if (i == j) {
          ASSERT_NEAR(found[i], sum, GetParam().float_error * 30.0);
        }
      }
    }
  }
}

// The same key runs again with what the step holds then.
TEST_P(Conformance, RecordedOperationsReadTheStepAnew) {
  const std::vector<float> table = random_values(50 * 24, 1);
  const auto matrix = device.matrix(table, 24);
  const auto rows = device.empty(2, 24);
  TestStep inputs = TestStep::of_one(2);
  const auto step = inputs.begin(device);
  const StepKey key{this, step.get(), nullptr, 2, 0, 0};
  for (const uint32_t token : {3u, 17u, 49u}) {
    inputs.tokens = {token, 49 - token};
    inputs.begin_into(device, *step);
    device->run(key, [&] { device->embed(*matrix, *step, 1.0f, first_rows(rows, 2)); });
    const std::vector<float> found = device.values(rows);
    for (size_t i = 0; i < 48; ++i) ASSERT_EQ(found[i], table[inputs.tokens[i / 24] * 24 + i % 24]);
  }
}

}  // namespace
}  // namespace tritllm
