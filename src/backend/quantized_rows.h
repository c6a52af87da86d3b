// Owns activations in the form that products with ternary matrices read.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "core/thread_pool.h"
#include "kernels/ternary_kernels.h"

namespace tritllm {

class QuantizedRows {
 public:
  void quantize(Rows x, const kernels::TernaryProduct& product, ThreadPool& pool);

  // What the multiply() of the product last quantised for wants, x.count parts for each block.
  const void* parts() const noexcept { return lines_.data(); }

 private:
  struct alignas(64) CacheLine {
    uint8_t bytes[64];
  };

  std::vector<CacheLine> lines_;
};

}  // namespace tritllm
