// Owns the list of inner loops that a forward pass consists of, and the memory layout of their weights. Each instruction set fills
// one table; the scalar one (scalar/tensor_kernels.cpp) is the specification. Does not own threads, allocation or any order of
// calls.
//
// The result for one token never depends on the other tokens of a call: an output is always the same sum in the same order, so
// that a text does not change with the company it is computed in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention.h"

namespace tritllm::kernels {

// Rows of weights and of activations end in zeros up to a multiple of this many elements.
inline constexpr size_t kRowPadding = 16;

constexpr size_t padded_row(size_t width) noexcept { return (width + kRowPadding - 1) / kRowPadding * kRowPadding; }

enum class WeightType : uint8_t {
  kFloat32,
  kFloat16,
  kBFloat16,
  kCodes,  // ternary: codes in [−40, 40], a scale for each 16 of them
};
inline constexpr size_t kWeightTypes = 4;

// A matrix as the kernels read it. The weight of a code is code·steps[scale_code], rounded to float32 (docs/codec.md, "Decoding").
struct WeightRows {
  WeightType type;
  const void* values;          // [rows][stride] of float, uint16_t (bits) or int8_t (codes)
  size_t stride;               // padded_row(columns)
  const uint8_t* scale_codes;  // codes only: [rows][stride / 16], 0..26
  const float* steps;          // codes only: [27], scale / largest code
};

// From this many tokens on, multiply() expands the weights into its panel before it multiplies.
inline constexpr size_t kPanelTokens = 5;

enum class Activation : uint8_t { kSilu, kGeluTanh, kGeluErf, kReluSquared };
inline constexpr size_t kActivations = 4;

struct TensorKernels {
  // out[c] = W[row][c] for c < stride.
  using ExpandRow = void (*)(const WeightRows& weights, size_t row, float* out) noexcept;
  ExpandRow expand_row[kWeightTypes];

  // y[t·y_stride + r] = Σ_c W[first_row + r][c]·x[t·stride + c], for r < rows, t < tokens, c < stride.
  // panel: scratch of rows·stride floats, needed from kPanelTokens tokens on.
  using Multiply = void (*)(const WeightRows& weights, size_t first_row, size_t rows, const float* x, size_t tokens, float* panel,
                            float* y, size_t y_stride) noexcept;
  Multiply multiply[kWeightTypes];

  // out[i] = x[i]·gain[i] / sqrt(mean of x² + epsilon). out may be x.
  void (*rms_norm)(const float* x, const float* gain, size_t width, float epsilon, float* out) noexcept;

  // out[i] = activation(gate[i])·up[i]. out may be either.
  void (*gate[kActivations])(const float* gate, const float* up, size_t width, float* out) noexcept;

  // Attention to one span; merge() adds it to what came of earlier ones.
  void (*attend[kCacheTypes])(const AttentionTask& task) noexcept;
  void (*merge)(const AttentionState& span, size_t rows, size_t head_stride, const AttentionState& into) noexcept;
};

}  // namespace tritllm::kernels
