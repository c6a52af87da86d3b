// Floors of the signal-to-quantisation-noise ratio on simulated weights: a change that makes models worse fails here.
#include <gtest/gtest.h>

#include "kernels/kernel_table.h"
#include "support/matrices.h"
#include "support/quantized.h"

namespace tritllm {
namespace {

double sqnr_db(const std::vector<float>& weights, codec::MatrixShape shape, codec::Recipe recipe, int depth) {
  return quantize(weights, shape, {recipe, depth}, *kernels::active_table().groups).stats.sqnr_db();
}

TEST(Quality, OfAGaussian) {
  const codec::MatrixShape shape{1024, 4096};
  const std::vector<float> weights = random_matrix(Distribution::kGauss, shape.rows, shape.columns, 1);
  // The figures of both recipes in the design, with room for the sample of weights, whose extremes bound the codebook of uniform.
  const double optimal_floor[] = {7.75, 17.2, 27.2, 36.8}, uniform_expected[] = {7.64, 16.77, 26.40, 34.90};
  for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
    const double optimal = sqnr_db(weights, shape, codec::Recipe::kOptimal, depth);
    const double uniform = sqnr_db(weights, shape, codec::Recipe::kUniform, depth);
    RecordProperty("optimal_d" + std::to_string(depth), std::to_string(optimal));
    RecordProperty("uniform_d" + std::to_string(depth), std::to_string(uniform));
    EXPECT_GE(optimal, optimal_floor[depth - 1]) << "depth " << depth;
    EXPECT_NEAR(uniform, uniform_expected[depth - 1], 0.15) << "depth " << depth;
  }
}

class QualityOf : public testing::TestWithParam<Distribution> {};
INSTANTIATE_TEST_SUITE_P(Distributions, QualityOf,
                         testing::Values(Distribution::kGauss, Distribution::kStudent5, Distribution::kLaplace,
                                         Distribution::kStudent5Spread));

TEST_P(QualityOf, OptimalIsNeverBelowUniform) {
  const codec::MatrixShape shape{512, 1030};  // padded rows
  const std::vector<float> weights = random_matrix(GetParam(), shape.rows, shape.columns, 2);
  for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
    EXPECT_GT(sqnr_db(weights, shape, codec::Recipe::kOptimal, depth), sqnr_db(weights, shape, codec::Recipe::kUniform, depth))
        << "depth " << depth;
  }
}

}  // namespace
}  // namespace tritllm
