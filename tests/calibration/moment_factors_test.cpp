// Owns the tests of what follows from moments: factors against their definition, rounding against what is independent of them, and
// targets against a least-squares fit.
#include "calibration/moment_factors.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>
#include <random>
#include <vector>

#include "calibration/calibrated_matrix.h"
#include "calibration/host_algebra.h"
#include "codec/feedback_rounding.h"
#include "codec/group_kernels.h"
#include "codec/quantizer.h"

namespace tritllm {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Inputs {
  std::vector<float> source, quantised;  // [tokens][columns]
};

// Inputs with strong correlations and columns of very different sizes; the quantised model's are off by some noise.
Inputs make_inputs(size_t tokens, size_t columns, double noise) {
  std::mt19937_64 engine(tokens * 131 + columns);
  std::normal_distribution<double> gauss;
  Matrix mixing = Matrix::NullaryExpr(static_cast<Eigen::Index>(columns), static_cast<Eigen::Index>(columns),
                                      [&] { return gauss(engine) / std::sqrt(static_cast<double>(columns)); });
  for (Eigen::Index i = 0; i < mixing.cols(); ++i) mixing.col(i) *= std::exp(gauss(engine));
  Inputs inputs;
  for (size_t t = 0; t < tokens; ++t) {
    const Eigen::RowVectorXd x = Eigen::RowVectorXd::NullaryExpr(mixing.rows(), [&] { return gauss(engine); }) * mixing;
    for (const double value : x) {
      inputs.source.push_back(static_cast<float>(value));
      inputs.quantised.push_back(static_cast<float>(value * (1.0 + noise) + noise * gauss(engine)));
    }
  }
  return inputs;
}

std::vector<float> make_weights(size_t rows, size_t columns) {
  std::mt19937_64 engine(rows * 7 + columns);
  std::normal_distribution<float> gauss(0.0f, 0.05f);
  std::vector<float> weights(rows * columns);
  for (float& weight : weights) weight = gauss(engine);
  return weights;
}

class MomentFactorsTest : public testing::TestWithParam<size_t> {
 protected:
  static constexpr size_t kTokens = 400;
  size_t columns() const { return GetParam(); }

  InputMoments moments_of(const Inputs& inputs) {
    InputMoments moments{algebra_->make_sums(columns(), columns()), algebra_->make_sums(columns(), columns()), nullptr};
    const std::vector<float> ones(kTokens, 1.0f);
    moments.inputs->add_symmetric(inputs.quantised, ones);
    moments.cross->add(inputs.source, inputs.quantised, ones);
    return moments;
  }

  // Σ over tokens and rows of (W·x − Q·x̂)².
  double output_error(const std::vector<float>& weights, const std::vector<float>& rounded, const Inputs& inputs) const {
    const size_t rows = weights.size() / columns();
    double error = 0;
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t r = 0; r < rows; ++r) {
        double difference = 0;
        for (size_t c = 0; c < columns(); ++c) {
          difference += double{weights[r * columns() + c]} * double{inputs.source[t * columns() + c]} -
                        double{rounded[r * columns() + c]} * double{inputs.quantised[t * columns() + c]};
        }
        error += difference * difference;
      }
    }
    return error;
  }

  ThreadPool pool_{2};
  const codec::GroupKernels& kernels_ = codec::scalar_group_kernels();
  std::unique_ptr<Algebra> algebra_ = make_host_algebra(kernels_, pool_);
};

INSTANTIATE_TEST_SUITE_P(Columns, MomentFactorsTest, testing::Values(16, 40, 100));

TEST_P(MomentFactorsTest, MomentsAreWeightedSums) {
  const Inputs inputs = make_inputs(kTokens, columns(), 0.3);
  std::vector<float> weights(kTokens);
  for (size_t t = 0; t < kTokens; ++t) weights[t] = static_cast<float>(t % 7) / 3.0f;
  const auto cross = algebra_->make_sums(columns(), columns()), symmetric = algebra_->make_sums(columns(), columns());
  // In two calls of different lengths.
  const auto part = [&](const std::vector<float>& x, size_t first, size_t count) {
    return std::span(x).subspan(first * columns(), count * columns());
  };
  for (const auto& [first, count] : {std::pair<size_t, size_t>{0, 150}, {150, kTokens - 150}}) {
    const auto here = std::span(weights).subspan(first, count);
    cross->add(part(inputs.source, first, count), part(inputs.quantised, first, count), here);
    symmetric->add_symmetric(part(inputs.source, first, count), here);
  }
  for (size_t i = 0; i < columns(); ++i) {
    for (size_t j = 0; j < columns(); ++j) {
      double crossed = 0, squared = 0, energy = 0;
      for (size_t t = 0; t < kTokens; ++t) {
        const double x = weights[t] * inputs.source[t * columns() + i];
        crossed += x * inputs.quantised[t * columns() + j];
        squared += x * inputs.source[t * columns() + j];
        energy += std::fabs(x * inputs.source[t * columns() + j]);
      }
      EXPECT_NEAR(cross->sums()[i * columns() + j], crossed, 1e-4 * energy + 1e-3) << i << ' ' << j;
      EXPECT_NEAR(symmetric->sums()[i * columns() + j], squared, 1e-5 * energy + 1e-6) << i << ' ' << j;
    }
  }
}

TEST_P(MomentFactorsTest, FeedbackIsThatOfConditionalExpectations) {
  const MomentFactors made(moments_of(make_inputs(kTokens, columns(), 0.0)), {.damping = 0.01}, *algebra_, pool_);
  const codec::FeedbackFactors& factors = made.factors();
  const auto size = static_cast<Eigen::Index>(factors.columns);
  Matrix moments(size, size);
  for (Eigen::Index i = 0; i < size * size; ++i) moments.data()[i] = factors.moments[static_cast<size_t>(i)];
  // An error e in column i is best made good by −H_rr⁻¹·H_ri·e in the columns r after it.
  for (Eigen::Index i = 0; i + 1 < size; ++i) {
    const Eigen::Index rest = size - i - 1;
    const Eigen::VectorXd expected = moments.bottomRightCorner(rest, rest).ldlt().solve(moments.col(i).tail(rest));
    for (Eigen::Index j = 0; j < rest; ++j)
      EXPECT_NEAR(factors.feedback[static_cast<size_t>(i * size + i + 1 + j)], expected(j), 2e-3 * (1.0 + expected.norm()))
          << i << ' ' << j;
    const double left = moments(i, i) - moments.col(i).tail(rest).dot(expected);
    EXPECT_NEAR(factors.variances[static_cast<size_t>(i)], left, 1e-3 * left) << i;
  }
}

TEST_P(MomentFactorsTest, WholeShiftIsTheLeastSquaresFit) {
  const Inputs inputs = make_inputs(kTokens, columns(), 0.2);
  const InputMoments moments = moments_of(inputs);
  constexpr size_t kRows = 5;
  const std::vector<float> weights = make_weights(kRows, columns());
  std::vector<float> shifted = weights, half = weights, none = weights;
  const auto shift = [&](double how_far, std::vector<float>& to) {
    MomentFactors(moments, {.damping = 1e-4, .shift = how_far}, *algebra_, pool_).shift_targets(to, false);
  };
  shift(1.0, shifted);
  shift(0.5, half);
  shift(0.0, none);
  EXPECT_EQ(none, weights);
  const auto size = static_cast<Eigen::Index>(columns());
  const Eigen::Map<const Matrix> h(moments.inputs->sums().data(), size, size), c(moments.cross->sums().data(), size, size);
  for (size_t r = 0; r < kRows; ++r) {
    Eigen::RowVectorXd w(size);
    for (Eigen::Index i = 0; i < size; ++i) w(i) = double{weights[r * columns() + static_cast<size_t>(i)]};
    const Eigen::RowVectorXd expected = h.ldlt().solve((w * c).transpose()).transpose();
    for (Eigen::Index i = 0; i < size; ++i) {
      const size_t at = r * columns() + static_cast<size_t>(i);
      EXPECT_NEAR(shifted[at], expected(i), 0.01 * w.norm()) << r << ' ' << i;
      EXPECT_NEAR(half[at] - weights[at], (shifted[at] - weights[at]) / 2, 1e-5);
    }
  }
}

TEST_P(MomentFactorsTest, RoundingByMomentsLosesLessThanByItself) {
  const Inputs inputs = make_inputs(kTokens, columns(), 0.0);
  constexpr size_t kRows = 33;
  const codec::MatrixShape shape{.rows = kRows, .columns = columns()};
  const std::vector<float> weights = make_weights(kRows, columns());
  const MomentFactors factors(moments_of(inputs), {.damping = 0.01}, *algebra_, pool_);
  for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
    const CalibratedMatrix matrix = calibrate_matrix(weights, shape, depth, factors, false, kernels_, pool_);
    EXPECT_EQ(matrix.codes.size(), shape.groups() * codec::kGroupSize);
    // The nearest level of each weight by itself, with the same codebook.
    std::vector<float> padded(shape.groups() * codec::kGroupSize);
    codec::pad_groups(shape, 0, shape.groups(), weights.data(), padded.data());
    CalibratedMatrix nearest = matrix;
    std::vector<float> sums(6 * shape.groups());
    const auto part = [&](size_t i) { return sums.data() + i * shape.groups(); };
    kernels_.best_scale_codes(padded.data(), nullptr, shape.groups(), codec::largest_code(depth), matrix.codebook.data(),
                              nearest.scale_codes.data());
    kernels_.encode(padded.data(), shape.groups(), codec::largest_code(depth), matrix.codebook.data(), nearest.scale_codes.data(),
                    nearest.codes.data(), {part(0), part(1), part(2), part(3), part(4), part(5)});
    EXPECT_LT(output_error(weights, matrix.decoded(pool_), inputs), 0.9 * output_error(weights, nearest.decoded(pool_), inputs))
        << depth;
  }
}

TEST_P(MomentFactorsTest, SweepsNeverRaiseTheError) {
  const MomentFactors factors(moments_of(make_inputs(kTokens, columns(), 0.0)), {.damping = 0.01}, *algebra_, pool_);
  const size_t padded = factors.factors().columns;
  constexpr size_t kRows = 7;
  const std::vector<float> targets = make_weights(kRows, padded);
  codec::Codebook codebook = codec::geometric_codebook(0.03f, 0.2f);
  double before = INFINITY;
  for (int sweeps = 0; sweeps <= 5; ++sweeps) {
    codec::RoundedRows rounded;
    codec::round_rows(factors.factors(), codebook, 2, targets, kernels_, rounded, sweeps);
    double error = 0;
    for (size_t r = 0; r < kRows; ++r) {
      Eigen::RowVectorXd lost(static_cast<Eigen::Index>(padded));
      for (size_t c = 0; c < padded; ++c) {
        const float scale = codebook[rounded.scale_codes[r * padded / codec::kGroupSize + c / codec::kGroupSize]];
        lost(static_cast<Eigen::Index>(c)) =
            double{targets[r * padded + c]} - rounded.codes[r * padded + c] * double{scale} / codec::largest_code(2);
      }
      for (size_t i = 0; i < padded; ++i) {
        for (size_t j = 0; j < padded; ++j)
          error += lost(static_cast<Eigen::Index>(i)) * double{factors.factors().moments[i * padded + j]} *
                   lost(static_cast<Eigen::Index>(j));
      }
    }
    EXPECT_LE(error, before * (1 + 1e-5)) << sweeps;
    before = error;
  }
}

TEST_P(MomentFactorsTest, BytesDoNotDependOnTheThreads) {
  const Inputs inputs = make_inputs(kTokens, columns(), 0.1);
  const codec::MatrixShape shape{.rows = 70, .columns = columns()};
  std::vector<std::vector<int8_t>> codes;
  for (const unsigned threads : {1u, 3u}) {
    ThreadPool pool(threads);
    const auto algebra = make_host_algebra(kernels_, pool);
    InputMoments moments{algebra->make_sums(columns(), columns()), algebra->make_sums(columns(), columns()), nullptr};
    const std::vector<float> ones(kTokens, 1.0f);
    moments.inputs->add_symmetric(inputs.quantised, ones);
    moments.cross->add(inputs.source, inputs.quantised, ones);
    const MomentFactors factors(moments, {}, *algebra, pool);
    codes.push_back(calibrate_matrix(make_weights(70, columns()), shape, 3, factors, false, kernels_, pool).codes);
  }
  EXPECT_EQ(codes[0], codes[1]);
}

}  // namespace
}  // namespace tritllm
