// The products on a GPU against double precision: every depth and kernel, odd shapes, norm, bias, residual, several matrices of one
// launch, and rows of very different size. Skipped, with the reason, where there is no card.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <random>

#include "backend/cuda/device_memory.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/random_matrix.h"

namespace tritllm::cuda {
namespace {

std::optional<DeviceTraits> card() {
  int count = 0;
  DeviceTraits traits;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0 || device_traits(0, traits) != 0) return std::nullopt;
  return traits;
}

struct Case {
  int depth;
  std::vector<int64_t> rows;
  int64_t columns;
  int tokens;
  ProductKernel kernel = ProductKernel::kAutomatic;
  bool norm = false, bias = false, adds = false;
  float size = 1.0f;  // of the activations
};

// The largest relative error of the case's matrices: the norm of the difference over what the norm of the result would be if the
// signs of its products were random, so that a sum which happens to be near zero does not count.
double relative_error(const DeviceTraits& traits, const Case& test) {
  std::mt19937 random(static_cast<unsigned>(test.columns * 31 + test.tokens));
  std::normal_distribution<float> normal;
  const int64_t stride = (test.columns + 7) / 4 * 4;
  std::vector<float> input(static_cast<size_t>(stride * test.tokens)), gain(static_cast<size_t>(test.columns));
  for (float& value : input) value = normal(random) * test.size;
  for (float& value : gain) value = 1.0f + 0.2f * normal(random);
  // One activation far beyond the others, as real models have them.
  input[static_cast<size_t>(test.columns / 2)] *= 60.0f;
  constexpr float kEpsilon = 1e-5f;
  std::vector<double> normed(input.size());
  for (int token = 0; token < test.tokens; ++token) {
    const size_t first = static_cast<size_t>(token * stride);
    double squares = 0.0;
    for (int64_t i = 0; i < test.columns; ++i) squares += std::pow(static_cast<double>(input[first + static_cast<size_t>(i)]), 2);
    const double factor = test.norm ? 1.0 / std::sqrt(squares / static_cast<double>(test.columns) + kEpsilon) : 1.0;
    for (size_t i = 0; i < gain.size(); ++i)
      normed[first + i] = input[first + i] * factor * (test.norm ? static_cast<double>(gain[i]) : 1.0);
  }

  const DeviceArray<float> device_input(input), device_gain(gain);
  std::vector<RandomMatrix> matrices;
  std::vector<DeviceArray<float>> outputs, biases;
  std::vector<std::vector<float>> before, bias_values;
  std::vector<Product> products;
  for (const int64_t rows : test.rows) {
    matrices.push_back(random_matrix(test.depth, rows, test.columns, static_cast<unsigned>(rows + test.columns)));
    std::vector<float> old(static_cast<size_t>((rows + 3) * test.tokens)), bias(static_cast<size_t>(rows));
    for (float& value : old) value = test.adds ? normal(random) : std::numeric_limits<float>::quiet_NaN();
    for (float& value : bias) value = normal(random);
    outputs.emplace_back(old);
    biases.emplace_back(bias);
    before.push_back(std::move(old));
    bias_values.push_back(std::move(bias));
  }
  for (size_t i = 0; i < matrices.size(); ++i) {
    products.push_back(
        {matrices[i].view(), test.bias ? biases[i].data() : nullptr, outputs[i].data(), matrices[i].rows + 3, test.adds});
  }
  DeviceArray<uint8_t> operands(operand_bytes(test.tokens, test.columns)), partial_sums(partial_sum_bytes(traits));
  DeviceArray<uint32_t> counters(kCounters);
  counters.fill(0);
  operands.fill(0xff);
  // Twice into the same memory when nothing is added: counters must be back at zero, and the bits the same.
  std::vector<std::vector<float>> first_run;
  for (int run = 0; run < (test.adds ? 1 : 2); ++run) {
    check(multiply(traits, {device_input.data(), stride, test.tokens, test.norm ? device_gain.data() : nullptr, kEpsilon},
                   products.data(), static_cast<int>(products.size()), {operands.data(), partial_sums.data(), counters.data()},
                   nullptr, test.kernel),
          "multiply");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    for (size_t i = 0; i < matrices.size(); ++i) {
      if (run == 0) {
        first_run.push_back(outputs[i].read());
      } else {
        const std::vector<float> again = outputs[i].read();
        EXPECT_EQ(std::memcmp(again.data(), first_run[i].data(), again.size() * sizeof(float)), 0) << "two runs differ";
      }
    }
  }

  double worst = 0.0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const auto rows = static_cast<size_t>(matrices[i].rows);
    double difference = 0.0, reference = 0.0;
    for (size_t token = 0; token < static_cast<size_t>(test.tokens); ++token) {
      for (size_t row = 0; row < rows; ++row) {
        double size = 0.0;
        double sum = test.bias ? static_cast<double>(bias_values[i][row]) : 0.0;
        if (test.adds) sum += static_cast<double>(before[i][token * (rows + 3) + row]);
        for (size_t k = 0; k < gain.size(); ++k) {
          const double product =
              normed[token * static_cast<size_t>(stride) + k] * static_cast<double>(matrices[i].values[row * gain.size() + k]);
          sum += product;
          size += product * product;
        }
        const double error = static_cast<double>(first_run[i][token * (rows + 3) + row]) - sum;
        difference += error * error;
        reference += size;
      }
      for (size_t beyond = rows; beyond < rows + 3; ++beyond) {
        const size_t at = token * (rows + 3) + beyond;
        EXPECT_EQ(std::memcmp(&first_run[i][at], &before[i][at], sizeof(float)), 0) << "wrote beyond row " << rows;
      }
    }
    const double error = std::sqrt(difference / reference);
    worst = error <= worst ? worst : error;  // NaN stays
  }
  return worst;
}

// Half-precision activations are off by at most 2^-11, and scaled weights in halves by the same.
constexpr double kTolerance = 1.2e-3;

class CudaProduct : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const auto found = card();
    if (!found) GTEST_SKIP() << "no CUDA device";
    traits_ = *found;
  }
  DeviceTraits traits_;
};

void expect_close(const DeviceTraits& traits, const Case& test) {
  const double error = relative_error(traits, test);
  EXPECT_LE(error, kTolerance) << "depth " << test.depth << ", " << test.rows[0] << "×" << test.columns << ", " << test.tokens
                               << " tokens, kernel " << static_cast<int>(test.kernel);
  EXPECT_FALSE(std::isnan(error));
}

TEST_P(CudaProduct, OddShapesWithOneToken) {
  for (const int64_t columns : {1, 16, 100, 128, 144, 576, 640, 1000, 4096}) {
    for (const int64_t rows : {1, 16, 17, 129}) expect_close(traits_, {GetParam(), {rows}, columns, 1, ProductKernel::kSingle});
  }
  expect_close(traits_, {GetParam(), {5000}, 256, 1, ProductKernel::kSingle});
  for (const int64_t columns : {4097, 8200, 14336}) {
    for (const bool norm : {false, true}) expect_close(traits_, {GetParam(), {33}, columns, 1, ProductKernel::kSingle, norm});
  }
  expect_close(traits_, {GetParam(), {20}, 20000, 1});  // beyond what the single-token kernel prepares
}

// Cards before Hopper have less shared memory: rings of weights are shorter there, or the product takes another kernel.
TEST_P(CudaProduct, OneTokenWithLittleSharedMemory) {
  DeviceTraits small = traits_;
  small.shared_bytes = 99 << 10;
  small.warpgroup_mma = false;
  for (const int64_t columns : {576, 4096, 5000, 14336}) expect_close(small, {GetParam(), {300}, columns, 1});
}

TEST_P(CudaProduct, OddShapesWithSeveralTokens) {
  for (const int tokens : {1, 2, 8, 9, 16, 17, 32, 40}) {
    for (const int64_t columns : {1, 100, 128, 576, 1536}) {
      for (const int64_t rows : {1, 17, 300}) expect_close(traits_, {GetParam(), {rows}, columns, tokens, ProductKernel::kBatch});
    }
  }
  expect_close(traits_, {GetParam(), {4096}, 4096, 4, ProductKernel::kBatch});
}

TEST_P(CudaProduct, OddShapesInClusters) {
  if (!traits_.warpgroup_mma) GTEST_SKIP() << "warpgroup instructions need a Hopper card and a build for sm_90a";
  for (const int tokens : {1, 2, 8, 9, 16, 17, 32, 33, 97}) {
    for (const int64_t columns : {1, 100, 128, 576, 1536, 2100, 4096}) {
      for (const int64_t rows : {1, 17, 300}) expect_close(traits_, {GetParam(), {rows}, columns, tokens, ProductKernel::kCluster});
    }
    expect_close(traits_, {GetParam(), {9000}, 1100, tokens, ProductKernel::kCluster});
    expect_close(traits_, {GetParam(), {40}, 14336, tokens, ProductKernel::kCluster});
  }
}

TEST_P(CudaProduct, OddShapesWithManyTokens) {
  if (!traits_.warpgroup_mma) GTEST_SKIP() << "warpgroup instructions need a Hopper card and a build for sm_90a";
  for (const int tokens : {1, 33, 64, 65, 130, 257}) {
    for (const int64_t columns : {1, 100, 128, 576, 1536}) {
      for (const int64_t rows : {1, 17, 300}) expect_close(traits_, {GetParam(), {rows}, columns, tokens, ProductKernel::kPrefill});
    }
  }
  // Enough blocks for tiles of 128 and of 256 tokens, on a card of 132 multiprocessors.
  for (const int64_t columns : {100, 576}) expect_close(traits_, {GetParam(), {2000}, columns, 600, ProductKernel::kPrefill});
  for (const int64_t columns : {100, 900}) expect_close(traits_, {GetParam(), {3900}, columns, 1000, ProductKernel::kPrefill});
}

TEST_P(CudaProduct, NormBiasAndResidual) {
  for (const int tokens : {1, 5, 70}) {
    for (const bool norm : {false, true}) {
      for (const bool bias : {false, true}) {
        for (const bool adds : {false, true})
          expect_close(traits_, {GetParam(), {100}, 576, tokens, ProductKernel::kAutomatic, norm, bias, adds});
      }
    }
  }
}

TEST_P(CudaProduct, ThreeMatricesInOneLaunch) {
  for (const int tokens : {1, 3, 20, 100}) {
    expect_close(traits_, {GetParam(), {576, 192, 200}, 576, tokens, ProductKernel::kAutomatic, true, true});
    expect_close(traits_, {GetParam(), {100, 1}, 1024, tokens, ProductKernel::kAutomatic, true});
  }
}

TEST_P(CudaProduct, VerySmallAndVeryLargeActivations) {
  for (const int tokens : {1, 3, 100}) {
    for (const float size : {1e-12f, 1e-3f, 1e8f})
      expect_close(traits_, {GetParam(), {64}, 512, tokens, ProductKernel::kAutomatic, false, false, false, size});
  }
}

INSTANTIATE_TEST_SUITE_P(Depths, CudaProduct, testing::Values(0, 1, 2, 3, 4));

}  // namespace
}  // namespace tritllm::cuda
