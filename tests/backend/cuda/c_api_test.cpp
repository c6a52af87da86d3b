// The products of include/tritllm.h: what they refuse needs no card; what they compute is skipped, with the reason, where there is
// none.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>

#include "backend/cuda/device_memory.h"
#include "backend/cuda/devices.h"
#include "tritllm.h"

namespace tritllm::cuda {
namespace {

struct Weights {
  int depth;
  int64_t rows, columns;
  std::vector<int8_t> codes;
  std::vector<uint8_t> scale_codes;
  std::vector<float> codebook;

  Weights(int its_depth, int64_t row_count, int64_t column_count)
      : depth(its_depth), rows(row_count), columns(column_count), codebook(27) {
    std::mt19937 random(static_cast<unsigned>(rows + columns));
    const int levels = static_cast<int>(std::pow(3, depth));
    for (int64_t i = 0; i < rows * columns; ++i)
      codes.push_back(static_cast<int8_t>(static_cast<int>(random() % static_cast<unsigned>(levels)) - levels / 2));
    for (int64_t i = 0; i < rows * ((columns + 15) / 16); ++i) scale_codes.push_back(static_cast<uint8_t>(random() % 27));
    for (size_t i = 0; i < 27; ++i) codebook[i] = 0.01f * static_cast<float>(i + 1);
  }
  double value(int64_t row, int64_t column) const {
    const int levels = static_cast<int>(std::pow(3, depth));
    return codes[static_cast<size_t>(row * columns + column)] *
           double{codebook[scale_codes[static_cast<size_t>(row * ((columns + 15) / 16) + column / 16)]]} / (levels / 2);
  }
};

std::string refused(int depth, int64_t rows, int64_t columns, const Weights& weights) {
  trit_cuda_matrix* matrix = nullptr;
  char* error = nullptr;
  EXPECT_NE(trit_cuda_matrix_new(99, depth, rows, columns, weights.codes.data(), weights.scale_codes.data(),
                                 weights.codebook.data(), &matrix, &error),
            0);
  EXPECT_EQ(matrix, nullptr);
  const std::string message = error == nullptr ? "" : error;
  trit_free(error);
  return message;
}

TEST(CudaCApi, RefusesWithAMessage) {
  const Weights weights(2, 4, 20);
  EXPECT_NE(refused(5, 4, 20, weights).find("depth: 5"), std::string::npos);
  EXPECT_NE(refused(2, 0, 20, weights).find("shape"), std::string::npos);
  EXPECT_NE(refused(2, 4, 20, weights).find("no CUDA device 99"), std::string::npos);
  EXPECT_NE(trit_cuda_matrix_new(0, 2, 4, 20, nullptr, nullptr, nullptr, nullptr, nullptr), 0);
  trit_cuda_matrix_free(nullptr);
}

TEST(CudaCApi, MultipliesOnTheCallersPointers) {
  if (find_cuda_devices().devices.empty()) GTEST_SKIP() << find_cuda_devices().problem;
  for (int depth = 1; depth <= 4; ++depth) {
    const Weights weights(depth, 37, 100);
    trit_cuda_matrix* matrix = nullptr;
    char* error = nullptr;
    ASSERT_EQ(trit_cuda_matrix_new(0, depth, 37, 100, weights.codes.data(), weights.scale_codes.data(), weights.codebook.data(),
                                   &matrix, &error),
              0)
        << error;
    for (const int64_t tokens : {1, 3, 40}) {
      std::mt19937 random(1);
      std::normal_distribution<float> normal;
      std::vector<float> x(static_cast<size_t>(tokens * 104)), y(static_cast<size_t>(tokens * 37), 1.0f);
      for (float& value : x) value = normal(random);
      const DeviceArray<float> device_x(x), device_y(y);
      ASSERT_EQ(trit_cuda_multiply(matrix, device_x.data(), 104, tokens, device_y.data(), 37, 1, nullptr, &error), 0) << error;
      check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
      const std::vector<float> found = device_y.read();
      double difference = 0.0, size = 0.0;
      for (int64_t token = 0; token < tokens; ++token) {
        for (int64_t row = 0; row < 37; ++row) {
          double sum = 1.0;
          for (int64_t k = 0; k < 100; ++k) {
            const double product = weights.value(row, k) * double{x[static_cast<size_t>(token * 104 + k)]};
            sum += product;
            size += product * product;
          }
          difference += std::pow(sum - double{found[static_cast<size_t>(token * 37 + row)]}, 2);
        }
      }
      EXPECT_LT(std::sqrt(difference / size), 1.2e-3) << "depth " << depth << ", " << tokens << " tokens";
      EXPECT_NE(trit_cuda_multiply(matrix, device_x.data(), 99, tokens, device_y.data(), 37, 0, nullptr, &error), 0);
      EXPECT_NE(std::string(error).find("x_stride"), std::string::npos);
      trit_free(error);
    }
    trit_cuda_matrix_free(matrix);
  }
}

}  // namespace
}  // namespace tritllm::cuda
