#include "backend/quantized_rows.h"

#include <algorithm>

namespace tritllm {

namespace {

// Bytes that are written before another thread would have woken.
constexpr size_t kBytesWorthSharing = 24 * 1024;

}  // namespace

void QuantizedRows::quantize(Rows x, const kernels::TernaryProduct& product, ThreadPool& pool) {
  const size_t blocks = kernels::blocks_of(x.stride), part_bytes = product.activation_bytes(x.count);
  const size_t bytes = blocks * x.count * part_bytes;
  if (parts_.bytes() < bytes) parts_ = PageMemory(bytes);
  const auto quantize_blocks = [&](size_t row, size_t first, size_t end) {
    const size_t column = first * kernels::kTileColumns, columns = std::min(end * kernels::kTileColumns, x.stride) - column;
    product.quantize(x.data + row * x.stride + column, columns, x.count, parts_.data() + (first * x.count + row) * part_bytes,
                     x.count);
  };
  if (bytes < kBytesWorthSharing) {
    for (size_t row = 0; row < x.count; ++row) quantize_blocks(row, 0, blocks);
    return;
  }
  // Of fewer rows than threads, each thread takes a part.
  const size_t stretches = (pool.threads() + x.count - 1) / x.count;
  pool.parallel_for(x.count * stretches, [&](size_t task, unsigned) {
    const size_t stretch = task % stretches;
    quantize_blocks(task / stretches, blocks * stretch / stretches, blocks * (stretch + 1) / stretches);
  });
}

}  // namespace tritllm
