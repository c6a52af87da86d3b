// Owns the sums over tokens that calibration needs of the inputs of a layer's products. Does not own where inputs come from
// (streams.h) nor what follows from the sums (moment_factors.h).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "codec/group_kernels.h"
#include "core/thread_pool.h"

namespace tritllm {

// Σ_t weight_t·x_t·y_tᵀ, [rows][columns] for x of `rows` and y of `columns` elements. Tokens are added in the order of the calls,
// in float32 within a call and in float64 from call to call, so that the result does not depend on the threads.
class WeightedMoments {
 public:
  WeightedMoments() = default;
  WeightedMoments(size_t rows, size_t columns) : rows_(rows), columns_(columns), sums_(rows * columns) {}

  bool empty() const noexcept { return sums_.empty(); }
  size_t rows() const noexcept { return rows_; }
  size_t columns() const noexcept { return columns_; }
  // [rows][columns]
  std::span<const double> sums() const noexcept { return sums_; }

  // x: [tokens][rows], y: [tokens][columns], weights: [tokens].
  void add(std::span<const float> x, std::span<const float> y, std::span<const float> weights, const codec::GroupKernels& kernels,
           ThreadPool& pool) {
    add(x, y, weights, /*all=*/true, kernels, pool);
  }
  // The same for y = x, at half the cost: what lies below the diagonal is not there before mirror().
  void add_symmetric(std::span<const float> x, std::span<const float> weights, const codec::GroupKernels& kernels,
                     ThreadPool& pool) {
    add(x, x, weights, /*all=*/false, kernels, pool);
  }
  void mirror();

 private:
  void add(std::span<const float> x, std::span<const float> y, std::span<const float> weights, bool all,
           const codec::GroupKernels& kernels, ThreadPool& pool);

  size_t rows_ = 0, columns_ = 0;
  std::vector<double> sums_;
};

// What is known of the inputs of one product. x is the input in the source, x̂ the one in the model whose earlier matrices are
// quantised already, r and r̂ the hidden states that the product's output is added to.
struct InputMoments {
  WeightedMoments inputs;    // Σ w·x̂·x̂ᵀ
  WeightedMoments cross;     // Σ w·x·x̂ᵀ
  WeightedMoments residual;  // Σ w·(r − r̂)·x̂ᵀ; empty where the output is not added as it is
};

}  // namespace tritllm
