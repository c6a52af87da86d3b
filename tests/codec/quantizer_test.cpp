// The quantiser of one matrix: that order and threads do not matter, figures against their definition, and matrices at the edges.
#include "codec/quantizer.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "codec/decoder.h"
#include "core/half.h"
#include "core/thread_pool.h"
#include "kernels/kernel_table.h"
#include "support/matrices.h"
#include "support/quantized.h"

namespace tritllm {
namespace {

using codec::Config;
using codec::MatrixShape;
using codec::Recipe;

const codec::GroupKernels& fastest() { return *kernels::supported_tables().back().groups; }

// Recipe exact has tests of its own.
std::vector<Config> all_configs() {
  std::vector<Config> configs;
  for (const codec::RecipeRow& row : codec::recipes()) {
    if (row.search == codec::ScaleSearch::kGivesBack) continue;
    for (int depth = row.least_depth; depth <= row.most_depth; ++depth) configs.push_back({row.recipe, depth});
  }
  return configs;
}

std::vector<float> decode(const Quantized& quantized, MatrixShape shape, int depth) {
  std::vector<float> padded(quantized.codes.size()), weights(shape.weights());
  codec::FloatDecoder(quantized.codebook(), depth)
      .decode(quantized.codes.data(), quantized.scale_codes.data(), quantized.scale_codes.size(), padded.data());
  codec::strip_padding(shape, 0, shape.groups(), padded.data(), weights.data());
  return weights;
}

TEST(MatrixQuantizer, OrderAndThreadsDoNotMatter) {
  const MatrixShape shape{1100, 130};  // two blocks, padded rows, a filled-up last line
  const std::vector<float> weights = random_matrix(Distribution::kStudent5Spread, shape.rows, shape.columns, 3);
  ThreadPool pool(4);
  const codec::ParallelLoop threads = [&](size_t count, const std::function<void(size_t)>& body) {
    pool.parallel_for(count, [&](size_t index, unsigned) { body(index); });
  };
  for (const Config config : all_configs()) {
    SCOPED_TRACE(codec::config_name(config));
    const Quantized plain = quantize(weights, shape, config, fastest());
    for (const codec::ParallelLoop& loop : {loop_in_order(11), threads}) {
      const Quantized other = quantize(weights, shape, config, fastest(), loop);
      EXPECT_EQ(other.stored(), plain.stored());
      EXPECT_EQ(other.stats.error_energy, plain.stats.error_energy);
      EXPECT_EQ(other.stats.level_histogram, plain.stats.level_histogram);
    }
  }
}

TEST(MatrixQuantizer, StatsAreThoseOfTheDecodedWeights) {
  const MatrixShape shape{700, 133};
  const std::vector<float> weights = random_matrix(Distribution::kStudent5, shape.rows, shape.columns, 4);
  for (const Config config : all_configs()) {
    SCOPED_TRACE(codec::config_name(config));
    const Quantized made = quantize(weights, shape, config, fastest());
    const std::vector<float> decoded = decode(made, shape, config.depth);
    double error = 0, energy = 0, product = 0, decoded_energy = 0, largest = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const double w = weights[i], v = decoded[i];
      error += (w - v) * (w - v), energy += w * w, product += w * v, decoded_energy += v * v;
      largest = std::max(largest, std::abs(w - v));
    }
    EXPECT_EQ(made.stats.weights, weights.size());
    EXPECT_NEAR(made.stats.relative_mse(), error / energy, 1e-6 * error / energy);
    EXPECT_NEAR(made.stats.sqnr_db(), -10 * std::log10(error / energy), 1e-4);
    EXPECT_NEAR(made.stats.cosine(), product / std::sqrt(energy * decoded_energy), 1e-6);
    EXPECT_NEAR(made.stats.largest_error, largest, 1e-6 * largest);
    EXPECT_GT(made.stats.clipped, 0u);

    const int largest_code = codec::largest_code(config.depth);
    std::vector<uint64_t> histogram(static_cast<size_t>(2 * largest_code + 1));
    std::vector<int8_t> codes(weights.size());
    codec::strip_padding(shape, 0, shape.groups(), made.codes.data(), codes.data());
    for (const int code : codes) ++histogram[static_cast<size_t>(code + largest_code)];
    EXPECT_EQ(made.stats.level_histogram, histogram);
  }
}

TEST(MatrixQuantizer, ZerosStayZeros) {
  for (const MatrixShape shape : {MatrixShape{1, 1}, MatrixShape{5, 17}, MatrixShape{40, 80}}) {
    for (const float zero : {0.0f, -0.0f, 0x1p-41f, -1e-45f}) {
      for (const Config config : all_configs()) {
        SCOPED_TRACE(testing::Message() << codec::config_name(config) << " of " << zero << ", " << shape.rows << " rows");
        const Quantized made = quantize(std::vector<float>(shape.weights(), zero), shape, config, fastest());
        EXPECT_EQ(made.codebook(), codec::Codebook{});
        EXPECT_TRUE(std::all_of(made.trits.begin(), made.trits.end(), [](uint8_t byte) { return byte == 128; }));
        EXPECT_TRUE(std::all_of(made.scales.begin(), made.scales.end(), [](uint8_t byte) { return byte == 0; }));
        EXPECT_EQ(made.stats.clipped, 0u);
        EXPECT_EQ(made.stats.level_histogram[static_cast<size_t>(codec::largest_code(config.depth))], shape.weights());
        if (std::abs(zero) > 0x1p-60f) {
          EXPECT_EQ(made.stats.relative_mse(), 1.0);
          EXPECT_EQ(made.stats.cosine(), 0.0);
        } else {
          EXPECT_EQ(made.stats.relative_mse(), 0.0);
          EXPECT_EQ(made.stats.cosine(), 1.0);
          EXPECT_EQ(made.stats.sqnr_db(), std::numeric_limits<double>::infinity());
        }
      }
    }
  }
}

TEST(MatrixQuantizer, TinyGroupsBecomeZeroBesideLargeOnes) {
  const MatrixShape shape{3, 32};
  std::vector<float> weights(shape.weights(), 0.5f);
  std::fill_n(weights.begin() + 16, 16, std::nextafter(0x1p-40f, 0.0f));  // group 1: just a zero group
  std::fill_n(weights.begin() + 32, 16, -0x1p-40f);                       // group 2: just not
  for (const Config config : all_configs()) {
    SCOPED_TRACE(codec::config_name(config));
    const Quantized made = quantize(weights, shape, config, fastest());
    EXPECT_EQ(made.scale_codes[1], 0);
    for (size_t i = 16; i < 32; ++i) EXPECT_EQ(made.codes[i], 0);
    for (size_t i = 32; i < 48; ++i) EXPECT_LT(made.codes[i], 0);
    EXPECT_LT(made.stats.relative_mse(), 1e-12);
  }
}

TEST(MatrixQuantizer, TheLargestWeightsStayInRange) {
  const MatrixShape shape{20, 50};
  std::vector<float> weights = random_matrix(Distribution::kGauss, shape.rows, shape.columns, 9);
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = i % 3 == 0 ? std::copysign(kLargestHalf, weights[i]) : weights[i] * 1000.0f;
  for (const Config config : all_configs()) {
    SCOPED_TRACE(codec::config_name(config));
    const Quantized made = quantize(weights, shape, config, fastest());
    EXPECT_LE(made.codebook().back(), kLargestHalf);
    EXPECT_TRUE(std::is_sorted(made.codebook().begin(), made.codebook().end()));
    for (const float weight : decode(made, shape, config.depth)) {
      ASSERT_LT(half_from_float(weight) & 0x7fff, 0x7c00) << "an infinity in FP16";
    }
    EXPECT_TRUE(std::isfinite(made.stats.sqnr_db()));
  }
}

TEST(MatrixQuantizer, LevelsOfItsOwnComeBackExactly) {
  // Multiples of a power of two with the outermost level in every group: nothing is lost.
  for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
    const int largest = codec::largest_code(depth);
    const MatrixShape shape{10, 64};
    std::vector<float> weights;
    for (uint64_t i = 0; i < shape.weights(); ++i) {
      const int code = i % 16 == 0 ? largest : static_cast<int>(i * 7 % static_cast<uint64_t>(2 * largest + 1)) - largest;
      weights.push_back(static_cast<float>(code) * 0.125f);
    }
    const Quantized made = quantize(weights, shape, {Recipe::kOptimal, depth}, fastest());
    EXPECT_EQ(decode(made, shape, depth), weights) << "depth " << depth;
    EXPECT_EQ(made.stats.relative_mse(), 0.0);
    EXPECT_EQ(made.stats.sqnr_db(), std::numeric_limits<double>::infinity());
  }
}

TEST(FindUnusableWeight, FindsTheFirstOne) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(codec::find_unusable_weight({}), std::nullopt);
  std::vector<float> weights(10000, -kLargestHalf);
  weights[5] = kLargestHalf;
  weights[6] = 1e-45f;
  EXPECT_EQ(codec::find_unusable_weight(weights), std::nullopt);
  for (const float wrong : {kNan, -kNan, kInfinity, -kInfinity, std::nextafter(kLargestHalf, kInfinity), -65505.0f, 3e38f}) {
    for (const size_t place : {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, size_t{8191}, size_t{9999}}) {
      std::vector<float> damaged = weights;
      damaged[place] = damaged.back() = wrong;
      EXPECT_EQ(codec::find_unusable_weight(damaged), place) << wrong;
    }
  }
}

TEST(MatrixStats, JoinThoseOfSeveralMatrices) {
  codec::MatrixStats total, first, second;
  first.weights = 3, first.weight_energy = 4, first.error_energy = 1, first.product = 3, first.decoded_energy = 2.25;
  first.largest_error = 0.5f, first.clipped = 2, first.level_histogram = {1, 1, 1};
  second = first;
  second.largest_error = 0.25f, second.level_histogram = {0, 3, 0};
  total.add(first);
  total.add(second);
  EXPECT_EQ(total.weights, 6u);
  EXPECT_EQ(total.relative_mse(), 0.25);
  EXPECT_EQ(total.sqnr_db(), 6.0206);
  EXPECT_EQ(total.cosine(), 1.0);
  EXPECT_EQ(total.largest_error, 0.5f);
  EXPECT_EQ(total.clipped, 4u);
  EXPECT_EQ(total.level_histogram, (std::vector<uint64_t>{1, 4, 1}));
}

}  // namespace
}  // namespace tritllm
