// Owns the launchers of the CUDA kernels: plain structs of device pointers and numbers, and functions that put work on a stream and
// return at once. Used by the CUDA backend and by the C API; includes no CUDA header. Does not own memory, nor any check of a
// pointer: callers have validated shapes.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;

namespace tritllm::cuda {

using Stream = CUstream_st*;
// A cudaError_t; 0 is success.
using Status = int;

// What the launchers must know of a card, read once (device_traits).
struct DeviceTraits {
  int compute_capability = 0;  // 90: Hopper
  int multiprocessors = 0;
  int shared_bytes = 0;        // that one block may have
  bool warpgroup_mma = false;  // Hopper, in a build that has code for sm_90a
  bool dependent_launch() const noexcept { return compute_capability >= 90; }
};
Status device_traits(int device, DeviceTraits& traits);

// A matrix in the layout of layout.h.
struct Matrix {
  int depth = 0;  // 0: dense FP16
  int64_t rows = 0, columns = 0;
  const void* tiles = nullptr;
  const float* steps = nullptr;  // [32]: scale / largest code; zeros from 27 on. Null at depth 0.
  float unit = 1.0f;             // depth 0: the weights are the halves times this
};

// Activations, FP32: `tokens` rows, `stride` floats apart, 16-byte aligned. With a gain, each row is RMS-normed first.
struct Input {
  const float* rows;
  int64_t stride;
  int32_t tokens;
  const float* gain;
  float epsilon;
};

// out[token][row] = (input · weightsᵀ) + bias, added to what stands there where `adds`.
struct Product {
  Matrix weights;
  const float* bias;  // null: none
  float* out;
  int64_t out_stride;
  bool adds;
};
inline constexpr int kMaxProducts = 3;

// Device memory that products of several tokens need; one product at a time may use it.
struct Workspace {
  void* operands;     // operand_bytes(tokens, columns)
  void* partial_sums;  // partial_sum_bytes(traits)
  uint32_t* counters;  // kCounters, zero between products
};
inline constexpr int kCounters = 1 << 16;
size_t operand_bytes(int64_t tokens, int64_t columns) noexcept;
size_t partial_sum_bytes(const DeviceTraits& traits) noexcept;

// Which kernel multiplies: chosen by the number of tokens unless a test or a benchmark asks for one.
enum class ProductKernel { kAutomatic, kSingle, kBatch, kPrefill };

// Up to three matrices of one depth and one number of columns, multiplied with the same input.
Status multiply(const DeviceTraits& traits, const Input& input, const Product* products, int count, const Workspace& workspace,
                Stream stream, ProductKernel kernel = ProductKernel::kAutomatic);

}  // namespace tritllm::cuda
