#include "calibration/input_moments.h"

#include <algorithm>

namespace tritllm {

namespace {

constexpr size_t kRowsOfTask = 32;

}  // namespace

void WeightedMoments::add(std::span<const float> x, std::span<const float> y, std::span<const float> weights,
                          const codec::GroupKernels& kernels, ThreadPool& pool) {
  const size_t tokens = weights.size();
  pool.parallel_for((rows_ + kRowsOfTask - 1) / kRowsOfTask, [&](size_t task, unsigned) {
    const size_t first = task * kRowsOfTask, rows = std::min(kRowsOfTask, rows_ - first);
    std::vector<float> transposed(rows * tokens), block(rows * columns_);
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t r = 0; r < rows; ++r) transposed[r * tokens + t] = weights[t] * x[t * rows_ + first + r];
    }
    kernels.add_product(transposed.data(), tokens, y.data(), columns_, tokens, block.data(), columns_, rows, columns_);
    double* const sums = sums_.data() + first * columns_;
    for (size_t i = 0; i < block.size(); ++i) sums[i] += double{block[i]};
  });
}

}  // namespace tritllm
