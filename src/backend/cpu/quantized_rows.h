// Owns activations in the form that products with ternary matrices read.
#pragma once

#include "backend/cpu/rows.h"
#include "core/page_memory.h"
#include "core/thread_pool.h"
#include "kernels/ternary_kernels.h"

namespace tritllm {

class QuantizedRows {
 public:
  void quantize(FloatRows x, const kernels::TernaryFormatKernels& product);
  // By all threads, where there is work for them.
  void quantize(FloatRows x, const kernels::TernaryFormatKernels& product, ThreadPool& pool);

  // What the multiply() of the product last quantised for wants, x.count parts for each block.
  const void* parts() const noexcept { return parts_.data(); }

 private:
  void make_room(size_t bytes);
  void quantize_blocks(FloatRows x, const kernels::TernaryFormatKernels& product, size_t row, size_t first, size_t end) noexcept;

  PageMemory parts_;
};

}  // namespace tritllm
