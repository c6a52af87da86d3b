#include "backend/cpu/quantized_rows.h"

#include <algorithm>

namespace tritllm {

namespace {

// Bytes that are written before another thread would have woken.
constexpr size_t kBytesWorthSharing = 24 * 1024;

size_t bytes_of(FloatRows x, const kernels::TernaryFormatKernels& product) noexcept {
  return kernels::blocks_of(x.stride) * x.count * product.activation_bytes(x.count);
}

}  // namespace

void QuantizedRows::make_room(size_t bytes) {
  if (parts_.bytes() < bytes) parts_ = PageMemory(bytes);
}

void QuantizedRows::quantize_blocks(FloatRows x, const kernels::TernaryFormatKernels& product, size_t row, size_t first,
                                    size_t end) noexcept {
  const size_t column = first * kernels::kTileColumns, columns = std::min(end * kernels::kTileColumns, x.stride) - column;
  uint8_t* const out = parts_.data() + (first * x.count + row) * product.activation_bytes(x.count);
  product.quantize(x.row(row) + column, columns, x.count, out, x.count);
}

void QuantizedRows::quantize(FloatRows x, const kernels::TernaryFormatKernels& product) {
  make_room(bytes_of(x, product));
  for (size_t row = 0; row < x.count; ++row) quantize_blocks(x, product, row, 0, kernels::blocks_of(x.stride));
}

void QuantizedRows::quantize(FloatRows x, const kernels::TernaryFormatKernels& product, ThreadPool& pool) {
  const size_t bytes = bytes_of(x, product);
  if (bytes < kBytesWorthSharing) return quantize(x, product);
  make_room(bytes);
  // Of fewer rows than threads, each thread takes a part.
  const size_t blocks = kernels::blocks_of(x.stride), stretches = (pool.threads() + x.count - 1) / x.count;
  pool.parallel_for(x.count * stretches, [&](size_t task, unsigned) {
    const size_t stretch = task % stretches;
    quantize_blocks(x, product, task / stretches, blocks * stretch / stretches, blocks * (stretch + 1) / stretches);
  });
}

}  // namespace tritllm
