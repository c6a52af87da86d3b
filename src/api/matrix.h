// Owns one ternary matrix as programs use it: weights in memory to the bytes of docs/format.md and back, and products on the CPU.
// Does not own files, nor a whole model.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "codec/config.h"
#include "codec/geometry.h"
#include "io/packed_checkpoint.h"

namespace tritllm::api {

struct PackedBytes {
  int depth;
  std::vector<uint8_t> trits;   // [depth][lines][16]
  std::vector<uint8_t> scales;  // [lines][3]
  codec::Codebook codebook;
};

// The bytes that quantising a model would give this matrix. weights: [rows][columns]. Throws where a weight is not finite or too
// large for the codec. Not for recipe exact.
PackedBytes quantize_matrix(std::span<const float> weights, const codec::MatrixShape& shape, codec::Config config);

// A view of bytes that a caller vouches for by nothing: everything is checked. codebooks: [27] or [experts][27].
TernaryMatrix checked_matrix(const codec::MatrixShape& shape, int depth, std::span<const uint8_t> trits,
                             std::span<const uint8_t> scales, std::span<const float> codebooks);

// out: [rows][columns].
void decode_matrix(const TernaryMatrix& matrix, std::span<float> out);

// A matrix in the layout of the CPU's kernels; what it was made from may go.
class ProductMatrix {
 public:
  // "int8" or "f32".
  ProductMatrix(const TernaryMatrix& matrix, std::string_view arithmetic);
  ~ProductMatrix();
  ProductMatrix(const ProductMatrix&) = delete;
  ProductMatrix& operator=(const ProductMatrix&) = delete;

  uint64_t rows() const noexcept { return matrix_->rows(); }
  uint64_t columns() const noexcept { return matrix_->columns(); }
  uint64_t bytes() const noexcept { return matrix_->bytes(); }

  // y[token][row] = Σ over columns of x[token][column]·weight[row][column]. Thread-safe: products wait for each other.
  void multiply(std::span<const float> x, size_t tokens, std::span<float> y) const;

 private:
  class Device;
  const std::shared_ptr<Device> device_;
  std::unique_ptr<DeviceMatrix> matrix_;
};

// The threads of the functions above and of matrices that are made afterwards; 0: all processors.
void set_matrix_threads(unsigned threads);

}  // namespace tritllm::api
