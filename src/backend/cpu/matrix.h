// Owns a matrix of weights, or a slice of one, in the layout that the CPU kernels read, made from the layout that it has in a file.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/backend.h"
#include "core/page_memory.h"
#include "core/thread_pool.h"
#include "io/weight_source.h"
#include "kernels/tensor_kernels.h"
#include "kernels/ternary_kernels.h"

namespace tritllm {

class CpuMatrix final : public DeviceMatrix {
 public:
  // Dense tensors of a plain float type whose rows need no padding are read in place, in the mapped file; others are converted to
  // float32. Ternary ones become tiles, or, for float arithmetic, a byte for each code.
  // A slice of columns of a dense tensor is always converted.
  CpuMatrix(const WeightSource& source, const MatrixSlice& slice, Arithmetic arithmetic, const kernels::TernaryKernels& kernels,
            PageArena& arena, ThreadPool& pool);
  CpuMatrix(const CpuMatrix&) = delete;
  CpuMatrix& operator=(const CpuMatrix&) = delete;

  uint64_t rows() const noexcept override { return rows_; }
  uint64_t columns() const noexcept override { return columns_; }
  uint64_t bytes() const noexcept override;

  // One of both.
  const kernels::WeightRows* floats() const noexcept { return std::get_if<kernels::WeightRows>(&weights_); }
  const kernels::TernaryTiles* tiles() const noexcept { return std::get_if<kernels::TernaryTiles>(&weights_); }

  // out[c] = W[row][c] for c < padded_row(columns).
  void expand_row(const kernels::TensorKernels& kernels, size_t row, float* out) const noexcept;

 private:
  void use_dense(const SourceTensor& tensor, const MatrixSlice& slice, ThreadPool& pool);
  void unpack_codes(const TernaryMatrix& matrix, const MatrixSlice& slice, ThreadPool& pool);
  void pack_tiles(const TernaryMatrix& matrix, const MatrixSlice& slice, kernels::TileFormat format, PageArena& arena,
                  ThreadPool& pool);

  uint64_t rows_ = 0, columns_ = 0;
  std::variant<kernels::WeightRows, kernels::TernaryTiles> weights_;
  // What weights_ points to, unless it is the mapped file.
  std::vector<float> floats_;
  std::vector<int8_t> codes_;
  std::vector<uint8_t> scale_codes_;
  PageArena::Piece blocks_;
  kernels::ScaleTable scales_{};
  std::array<float, codec::kCodebookSize> steps_{};  // scale / largest code
};

}  // namespace tritllm
