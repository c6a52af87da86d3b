// Owns a matrix of weights in the form that the CPU kernels read, made from the form it has in a file.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "core/thread_pool.h"
#include "kernels/tensor_kernels.h"

namespace tritllm {

class CpuMatrix final : public DeviceMatrix {
 public:
  // Dense tensors of a plain float type whose rows need no padding are read in place, in the mapped file; others are converted to
  // float32. Ternary ones become a byte for each code.
  CpuMatrix(const WeightSource& source, ThreadPool& pool);

  uint64_t rows() const noexcept override { return rows_; }
  uint64_t columns() const noexcept override { return columns_; }
  uint64_t bytes() const noexcept override;
  const kernels::WeightRows& weights() const noexcept { return weights_; }

 private:
  void adopt(const SourceTensor& tensor, ThreadPool& pool);
  void adopt(const TernaryMatrix& matrix, ThreadPool& pool);

  uint64_t rows_ = 0, columns_ = 0;
  kernels::WeightRows weights_{};
  // What weights_ points to, unless it is the mapped file.
  std::vector<float> floats_;
  std::vector<int8_t> codes_;
  std::vector<uint8_t> entries_;
  std::vector<float> steps_;
};

}  // namespace tritllm
