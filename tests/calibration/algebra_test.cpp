// What every Algebra has to do: the host's, and that of a CUDA device where there is one with cuBLAS.
#include "backend/algebra.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/cuda/devices.h"
#include "calibration/host_algebra.h"
#include "codec/geometry.h"

namespace tritllm {
namespace {

using codec::kGroupSize;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class AlgebraTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "host") {
      algebra_ = make_host_algebra(kernels_, pool_);
      return;
    }
    const CudaDevices found = find_cuda_devices();
    if (found.devices.empty()) GTEST_SKIP() << found.problem;
    if (!cuda_algebra_problem().empty()) GTEST_SKIP() << cuda_algebra_problem();
    algebra_ = make_cuda_algebra(found.devices.front().index);
  }

  std::vector<float> random_values(size_t count, float scale = 1.0f) {
    std::normal_distribution<float> gauss(0.0f, scale);
    std::vector<float> values(count);
    for (float& value : values) value = gauss(engine_);
    return values;
  }

  // H of random inputs that depend on each other, conditioned.
  Matrix random_moments(size_t size) {
    const auto count = static_cast<Eigen::Index>(size);
    const std::vector<float> values = random_values(2 * size * size);
    const Matrix inputs =
        Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(values.data(), 2 * count, count)
            .cast<double>();
    Matrix mixed = inputs;
    for (Eigen::Index i = 1; i < count; ++i) mixed.col(i) += 0.7 * mixed.col(i - 1);
    return mixed.transpose() * mixed / static_cast<double>(2 * size) + 0.05 * Matrix::Identity(count, count);
  }

  // As MomentFactors makes them.
  codec::FeedbackFactors factors_of(const Matrix& moments) {
    const auto size = static_cast<size_t>(moments.rows());
    codec::FeedbackFactors factors;
    factors.columns = size;
    for (Eigen::Index i = 0; i < moments.size(); ++i) factors.moments.push_back(static_cast<float>(moments.data()[i]));
    const auto add = [](Matrix block, std::vector<float>* inverse, std::vector<float>& feedback, std::vector<float>& variances) {
      const auto count = static_cast<size_t>(block.rows());
      ASSERT_TRUE(invert_factor({block.data(), count * count}, count));
      const Matrix product = block.transpose() * block;
      for (Eigen::Index i = 0; i < block.rows(); ++i) {
        for (Eigen::Index j = 0; j < block.cols(); ++j) {
          feedback.push_back(j > i ? static_cast<float>(-block(i, j) / block(i, i)) : 0.0f);
          if (inverse != nullptr) inverse->push_back(static_cast<float>(product(i, j)));
        }
        variances.push_back(static_cast<float>(1.0 / (block(i, i) * block(i, i))));
      }
    };
    add(moments, nullptr, factors.feedback, factors.variances);
    for (Eigen::Index at = 0; at < moments.rows(); at += static_cast<Eigen::Index>(kGroupSize)) {
      add(moments.block(at, at, static_cast<Eigen::Index>(kGroupSize), static_cast<Eigen::Index>(kGroupSize)),
          &factors.group_inverse, factors.group_feedback, factors.group_variances);
    }
    return factors;
  }

  // Σ over the rows of (t − q)·H·(t − q)ᵀ.
  static double error_of(const Matrix& moments, const codec::Codebook& codebook, int depth, const std::vector<float>& targets,
                         const codec::RoundedRows& rounded) {
    const auto columns = static_cast<size_t>(moments.rows());
    double error = 0;
    for (size_t row = 0; row < targets.size() / columns; ++row) {
      Eigen::RowVectorXd lost(moments.rows());
      for (size_t c = 0; c < columns; ++c) {
        const float scale = codebook[rounded.scale_codes[row * columns / kGroupSize + c / kGroupSize]];
        lost(static_cast<Eigen::Index>(c)) =
            double{targets[row * columns + c]} - rounded.codes[row * columns + c] * double{scale} / codec::largest_code(depth);
      }
      error += lost * moments * lost.transpose();
    }
    return error;
  }

  std::mt19937_64 engine_{11};
  ThreadPool pool_{2};
  const codec::GroupKernels& kernels_ = codec::scalar_group_kernels();
  std::unique_ptr<Algebra> algebra_;
};

INSTANTIATE_TEST_SUITE_P(Devices, AlgebraTest, testing::Values("host", "cuda"));

TEST_P(AlgebraTest, ProductsAreThoseOfFloat64) {
  for (const auto& [rows, inner, columns] :
       {std::tuple<size_t, size_t, size_t>{1, 1, 1}, {3, 7, 5}, {130, 65, 33}, {67, 300, 129}}) {
    const std::vector<float> left = random_values(rows * inner), right = random_values(inner * columns);
    std::vector<float> across(right.size());
    for (size_t k = 0; k < inner; ++k) {
      for (size_t c = 0; c < columns; ++c) across[c * inner + k] = right[k * columns + c];
    }
    for (const auto& kept : {algebra_->keep(right, inner, columns), algebra_->keep_across(across, inner, columns)}) {
      EXPECT_EQ(kept->rows(), inner);
      EXPECT_EQ(kept->columns(), columns);
      const std::vector<float> out = algebra_->product(left, *kept);
      ASSERT_EQ(out.size(), rows * columns);
      for (size_t i = 0; i < out.size(); ++i) {
        double sum = 0, size = 0;
        for (size_t k = 0; k < inner; ++k) {
          const double term = double{left[i / columns * inner + k]} * double{right[k * columns + i % columns]};
          sum += term;
          size += std::fabs(term);
        }
        ASSERT_NEAR(out[i], sum, 1e-5 * size) << rows << ' ' << inner << ' ' << columns << ' ' << i;
      }
    }
  }
}

TEST_P(AlgebraTest, SumsAreThoseOfFloat64) {
  constexpr size_t kRows = 37, kColumns = 50;
  const auto crossed = algebra_->make_sums(kRows, kColumns), symmetric = algebra_->make_sums(kRows, kRows);
  std::vector<double> expected(kRows * kColumns), expected_symmetric(kRows * kRows);
  for (const size_t tokens : {1u, 70u}) {
    const std::vector<float> x = random_values(tokens * kRows, 30.0f), y = random_values(tokens * kColumns);
    std::vector<float> weights(tokens);
    for (size_t t = 0; t < tokens; ++t) weights[t] = static_cast<float>(t % 5);
    crossed->add(x, y, weights);
    symmetric->add_symmetric(x, weights);
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t r = 0; r < kRows; ++r) {
        const double left = double{weights[t]} * double{x[t * kRows + r]};
        for (size_t c = 0; c < kColumns; ++c) expected[r * kColumns + c] += left * double{y[t * kColumns + c]};
        for (size_t c = 0; c < kRows; ++c) expected_symmetric[r * kRows + c] += left * double{x[t * kRows + c]};
      }
    }
  }
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(crossed->sums()[i], expected[i], 0.02) << i;
  for (size_t i = 0; i < expected_symmetric.size(); ++i) {
    ASSERT_NEAR(symmetric->sums()[i], expected_symmetric[i], 0.5) << i;
    ASSERT_EQ(symmetric->sums()[i], symmetric->sums()[i % kRows * kRows + i / kRows]) << i;
  }
}

TEST_P(AlgebraTest, InverseFactorsGiveTheInverse) {
  for (const size_t size : {16u, 48u, 129u, 304u}) {
    const Matrix moments = random_moments(size);
    Matrix upper = moments;
    ASSERT_TRUE(algebra_->invert_factor({upper.data(), size * size}, size)) << size;
    const Matrix identity = upper.transpose() * upper * moments;
    EXPECT_LT((identity - Matrix::Identity(upper.rows(), upper.cols())).cwiseAbs().maxCoeff(), 1e-9) << size;
    EXPECT_EQ(upper.triangularView<Eigen::StrictlyLower>().toDenseMatrix().cwiseAbs().maxCoeff(), 0.0) << size;
  }
}

TEST_P(AlgebraTest, WhatHasNoFactorIsTold) {
  for (const size_t at : {0u, 20u, 199u}) {
    Matrix moments = random_moments(200);
    moments(static_cast<Eigen::Index>(at), static_cast<Eigen::Index>(at)) = -1.0;
    EXPECT_FALSE(algebra_->invert_factor({moments.data(), 200 * 200}, 200)) << at;
  }
}

TEST_P(AlgebraTest, RowsAreRoundedAsTheCodecDoes) {
  codec::Codebook codebook = codec::geometric_codebook(0.02f, 0.3f);
  codebook[3] = 0.0f;
  for (const size_t columns : {16u, 48u, 128u, 400u}) {
    const Matrix moments = random_moments(columns);
    const codec::FeedbackFactors factors = factors_of(moments);
    const auto kept = algebra_->keep(factors);
    for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
      const size_t rows = 35;
      std::vector<float> targets = random_values(rows * columns, 0.1f);
      std::fill_n(targets.begin(), columns, 0.0f);
      for (size_t i = columns; i < 2 * columns; i += 3) targets[i] = i % 2 == 0 ? 65504.0f : -65504.0f;
      codec::RoundedRows expected, found;
      codec::round_rows(factors, codebook, depth, targets, kernels_, expected);
      algebra_->round_rows(*kept, codebook, depth, targets, found);
      ASSERT_EQ(found.codes.size(), rows * columns);
      ASSERT_EQ(found.scale_codes.size(), rows * columns / kGroupSize);
      // Other last bits make other choices now and then; they are as good.
      size_t equal = 0;
      for (size_t i = 0; i < found.codes.size(); ++i) {
        ASSERT_LE(std::abs(found.codes[i]), codec::largest_code(depth));
        equal += found.codes[i] == expected.codes[i] ? size_t{1} : size_t{0};
      }
      EXPECT_GT(equal, found.codes.size() * 95 / 100) << columns << ' ' << depth;
      for (size_t i = 0; i < columns; ++i) ASSERT_EQ(found.codes[i], 0) << "targets of zero";
      for (size_t i = 0; i < found.scale_codes.size(); ++i) {
        ASSERT_LT(found.scale_codes[i], codebook.size());
        const auto* const codes = found.codes.data() + i * kGroupSize;
        if (std::all_of(codes, codes + kGroupSize, [](int8_t code) { return code == 0; })) ASSERT_EQ(found.scale_codes[i], 0);
        else ASSERT_NE(found.scale_codes[i], 3) << "a scale of zero";
      }
      // Without the row of huge values, which is most of the error.
      const auto usual = [&](const codec::RoundedRows& all) {
        codec::RoundedRows rest = all;
        rest.codes.erase(rest.codes.begin(), rest.codes.begin() + static_cast<std::ptrdiff_t>(2 * columns));
        rest.scale_codes.erase(rest.scale_codes.begin(),
                               rest.scale_codes.begin() + static_cast<std::ptrdiff_t>(2 * columns / kGroupSize));
        return error_of(moments, codebook, depth, {targets.begin() + static_cast<std::ptrdiff_t>(2 * columns), targets.end()},
                        rest);
      };
      EXPECT_NEAR(usual(found) / usual(expected), 1.0, 0.01) << columns << ' ' << depth;
      EXPECT_NEAR(found.error / error_of(moments, codebook, depth, targets, found), 1.0, 1e-3) << columns << ' ' << depth;
    }
  }
}

TEST_P(AlgebraTest, ACodebookOfZerosRoundsToZeros) {
  const codec::FeedbackFactors factors = factors_of(random_moments(48));
  const auto kept = algebra_->keep(factors);
  codec::RoundedRows found;
  algebra_->round_rows(*kept, codec::Codebook{}, 2, random_values(9 * 48), found);
  EXPECT_TRUE(std::ranges::all_of(found.codes, [](int8_t code) { return code == 0; }));
  EXPECT_TRUE(std::ranges::all_of(found.scale_codes, [](uint8_t code) { return code == 0; }));
}

TEST_P(AlgebraTest, TheSameCallGivesTheSameBits) {
  const Matrix moments = random_moments(272);
  const codec::FeedbackFactors factors = factors_of(moments);
  const auto kept = algebra_->keep(factors);
  const codec::Codebook codebook = codec::geometric_codebook(0.02f, 0.3f);
  // More rows than are rounded together on a device.
  const std::vector<float> targets = random_values(4100 * 272, 0.1f);
  codec::RoundedRows first, second;
  algebra_->round_rows(*kept, codebook, 2, targets, first);
  algebra_->round_rows(*kept, codebook, 2, targets, second);
  EXPECT_EQ(first.codes, second.codes);
  EXPECT_EQ(first.scale_codes, second.scale_codes);
  EXPECT_EQ(first.error, second.error);
}

}  // namespace
}  // namespace tritllm
