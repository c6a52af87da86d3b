// Owns activations in the 8-bit form that products with ternary matrices read.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "core/thread_pool.h"
#include "kernels/ternary_kernels.h"

namespace tritllm {

class QuantizedRows {
 public:
  void forget() noexcept { held_ = false; }

  // Quantises x for matrices of this format, unless it is held already.
  void hold(Rows x, kernels::TileFormat format, const kernels::TernaryKernels& kernels, ThreadPool& pool);

  // [blocks_of(x.width)][x.count]
  const kernels::ActivationBlock* blocks() const noexcept { return blocks_.data(); }

 private:
  std::vector<kernels::ActivationBlock> blocks_;
  bool held_ = false;
};

}  // namespace tritllm
