// Owns a matrix on a CUDA device, and the packing of weights on the way there. Does not own the layout (layout.h).
#pragma once

#include <memory>
#include <optional>

#include "backend/backend.h"
#include "backend/cuda/context.h"
#include "core/thread_pool.h"
#include "io/weight_source.h"

namespace tritllm::cuda {

class CudaMatrix final : public DeviceMatrix {
 public:
  // `staging` is memory for packed tiles on their way; its size bounds what is packed at once.
  CudaMatrix(Context& context, const WeightSource& source, const MatrixSlice& slice, ThreadPool& pool, const PinnedMemory& staging);

  uint64_t rows() const noexcept override { return static_cast<uint64_t>(view_.rows); }
  uint64_t columns() const noexcept override { return static_cast<uint64_t>(view_.columns); }
  uint64_t bytes() const noexcept override { return tiles_->bytes(); }

  const Matrix& view() const noexcept { return view_; }
  // A dense matrix that its file holds in float32, [rows][columns], so that an embedding is exact; null for others.
  const float* floats() const noexcept { return floats_ ? floats_->as<float>() : nullptr; }

 private:
  template <typename PackTile>
  void pack(Context& context, ThreadPool& pool, const PinnedMemory& staging, PackTile&& pack_tile);
  void use_ternary(Context& context, const TernaryMatrix& matrix, const MatrixSlice& slice, ThreadPool& pool,
                   const PinnedMemory& staging);
  void use_dense(Context& context, const SourceTensor& tensor, const MatrixSlice& slice, ThreadPool& pool,
                 const PinnedMemory& staging);

  Matrix view_;
  std::optional<DeviceMemory> tiles_, steps_, floats_;
};

}  // namespace tritllm::cuda
