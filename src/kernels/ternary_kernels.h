// Owns the list of inner loops that multiply ternary matrices by integers, and the form of the activations that they read. Each
// instruction set fills one table; the scalar one (scalar/ternary_kernels.cpp) is the specification. docs/kernels.md has the
// arithmetic and what it costs in quality.
//
// Every table gives the same bits: within a group all is integer, and the groups of an output are added in ascending order by fused
// multiplications. So an output depends neither on the machine nor on the other tokens or rows of a call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ternary_tiles.h"

namespace tritllm::kernels {

// 16 activations of a token: x[i] ≈ scale·values[i].
struct ActivationGroup {
  int8_t values[16];
  // What the kernels' sums of unsigned fields have too much, negated: −largest code · sum of the activations. `offset` is of all
  // 16; `offsets` of those that meet in one 16-bit half of a lane, modulo 2^16: columns 0, 1 of every 4 and columns 2, 3. At depth
  // 4, where 16 bits hold four products only, the first pair is of columns below 8 and the second of the others; else the second is
  // 0.
  int16_t offsets[4];
  int32_t offset;
  float scale;  // 0: all are (nearly) zero; NaN: one was no finite number
};

// A token's part of a block of columns: one cache line.
struct alignas(64) ActivationBlock {
  ActivationGroup groups[kTileGroups];
};

// Activations below this are taken as zeros, so that the reciprocal of a scale is finite.
inline constexpr float kLeastActivation = 1e-30f;

struct TernaryKernels {
  const char* name;

  // One token's activations x[columns] (columns a multiple of 16) for matrices of this format: out[block·out_stride] for
  // block < blocks_of(columns). A group's scale is its largest magnitude / 127; ties round to even.
  void (*quantize)(const float* x, size_t columns, TileFormat format, ActivationBlock* out, size_t out_stride) noexcept;

  // y[t·y_stride + r] = unit·Σ_g scale_t,g·(multiple_r,g·Σ_c code·value) for the rows r of the band, padding to whole tiles
  // included, and t < tokens; x[block·x_stride + t].
  using Multiply = void (*)(const TernaryTiles& matrix, size_t band, const ActivationBlock* x, size_t x_stride, size_t tokens,
                            float* y, size_t y_stride) noexcept;
  Multiply multiply[kTileFormats];
};

}  // namespace tritllm::kernels
