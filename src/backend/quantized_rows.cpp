#include "backend/quantized_rows.h"

namespace tritllm {

namespace {

// Fewer elements are quantised before another thread would have woken.
constexpr size_t kWorthSharing = 32 * 1024;

}  // namespace

void QuantizedRows::hold(Rows x, kernels::TileFormat format, const kernels::TernaryKernels& kernels, ThreadPool& pool) {
  if (held_) return;
  held_ = true;
  const size_t count = kernels::blocks_of(x.stride) * x.count;
  if (blocks_.size() < count) blocks_.resize(count);
  const auto quantize_row = [&](size_t row) {
    kernels.quantize(x.data + row * x.stride, x.stride, format, blocks_.data() + row, x.count);
  };
  if (x.count * x.width < kWorthSharing) {
    for (size_t row = 0; row < x.count; ++row) quantize_row(row);
  } else {
    pool.parallel_for(x.count, [&](size_t row, unsigned) { quantize_row(row); });
  }
}

}  // namespace tritllm
