#include "calibration/input_moments.h"

#include <algorithm>

namespace tritllm {

namespace {

// Rows of x and columns of y that are worked on together: both stay in the cache of one core.
constexpr size_t kRowsOfTask = 64, kPanelColumns = 32;

// [columns / 32][tokens][32]
std::vector<float> panels_of(std::span<const float> y, size_t tokens, size_t columns, ThreadPool& pool) {
  const size_t panels = (columns + kPanelColumns - 1) / kPanelColumns;
  std::vector<float> packed(panels * tokens * kPanelColumns);
  pool.parallel_for(panels, [&](size_t panel, unsigned) {
    const size_t first = panel * kPanelColumns, count = std::min(kPanelColumns, columns - first);
    for (size_t t = 0; t < tokens; ++t)
      std::copy_n(y.data() + t * columns + first, count, packed.data() + (panel * tokens + t) * kPanelColumns);
  });
  return packed;
}

}  // namespace

void WeightedMoments::add(std::span<const float> x, std::span<const float> y, std::span<const float> weights, bool all,
                          const codec::GroupKernels& kernels, ThreadPool& pool) {
  const size_t tokens = weights.size();
  const std::vector<float> panels = panels_of(y, tokens, columns_, pool);
  pool.parallel_for((rows_ + kRowsOfTask - 1) / kRowsOfTask, [&](size_t task, unsigned) {
    const size_t first = task * kRowsOfTask, rows = std::min(kRowsOfTask, rows_ - first);
    std::vector<float> transposed(rows * tokens), block(rows * kPanelColumns);
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t r = 0; r < rows; ++r) transposed[r * tokens + t] = weights[t] * x[t * rows_ + first + r];
    }
    for (size_t column = all ? 0 : first / kPanelColumns * kPanelColumns; column < columns_; column += kPanelColumns) {
      const size_t count = std::min(kPanelColumns, columns_ - column);
      std::ranges::fill(block, 0.0f);
      kernels.add_product(transposed.data(), tokens, panels.data() + column * tokens, kPanelColumns, tokens, block.data(),
                          kPanelColumns, rows, kPanelColumns);
      for (size_t r = 0; r < rows; ++r) {
        double* const sums = sums_.data() + (first + r) * columns_ + column;
        for (size_t c = 0; c < count; ++c) sums[c] += double{block[r * kPanelColumns + c]};
      }
    }
  });
}

void WeightedMoments::mirror() {
  for (size_t r = 0; r < rows_; ++r) {
    for (size_t c = 0; c < r; ++c) sums_[r * columns_ + c] = sums_[c * columns_ + r];
  }
}

}  // namespace tritllm
