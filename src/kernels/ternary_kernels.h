// Owns the list of inner loops that multiply ternary matrices by integers, and the form of the activations that they read. Each
// instruction set fills one table; the scalar one (scalar/ternary_kernels.cpp) is the specification. docs/kernels.md has the
// arithmetic and what it costs in quality.
//
// Every table gives the same bits, up to its most_exact_tokens: within a group all is integer, and the groups of an output are
// added in ascending order by fused multiplications. So an output depends neither on the machine nor on the other tokens or rows of
// a call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ternary_tiles.h"

namespace tritllm::kernels {

// 16 activations of a token: x[i] ≈ scale·values[i].
struct ActivationGroup {
  int8_t values[16];
  // What the kernels' sums of unsigned fields have too much, negated: −largest code · sum of the activations. `offset` is of all
  // 16; `offsets` of the eight that meet in one 16-bit half of a lane: columns 0, 1 of every 4 and columns 2, 3.
  int16_t offsets[2];
  int32_t offset;
  float scale;  // 0: all are (nearly) zero; NaN: one was no finite number, or the reach was none
};

// A token's part of a block of columns: one cache line.
struct alignas(64) ActivationBlock {
  union {
    ActivationGroup groups[kTileGroups];
    uint16_t halves[kTileColumns];  // BF16, for tables that multiply many tokens so
  };
};

// Activations below this are taken as zeros, so that the reciprocal of a scale is finite.
inline constexpr float kLeastActivation = 1e-30f;

// The most that eight values that meet in 16 bits may add to, as magnitudes, for their products with any codes to fit there.
constexpr int32_t most_in_half(TileFormat format) noexcept { return 32767 / format_largest_code(format); }
constexpr bool halves_may_overflow(TileFormat format) noexcept { return most_in_half(format) < 8 * 127; }  // depth 4
// A group's values are x·127/reach, where reach is the largest |x| and, where halves may overflow, no less than this part of the
// eight magnitudes' sum: rounding adds at most a half to each. The sum's order is ((x[j] + x[j+4]) + (x[j+8] + x[j+12])) for j and
// j + 1, j even, as magnitudes.
constexpr float reach_of_half(TileFormat format) noexcept { return 127.0f / static_cast<float>(most_in_half(format) - 4); }

struct TernaryKernels {
  const char* name;

  // multiply() of more tokens than these rounds in another way than the specification, and more finely.
  size_t most_exact_tokens;

  // One of `tokens` tokens' activations x[columns] (columns a multiple of 16) for matrices of this format: out[block·out_stride]
  // for block < blocks_of(columns). A group's scale is its reach / 127; ties round to even.
  void (*quantize)(const float* x, size_t columns, TileFormat format, size_t tokens, ActivationBlock* out,
                   size_t out_stride) noexcept;

  // y[t·y_stride + r] = unit·Σ_g scale_t,g·(multiple_r,g·Σ_c code·value) for the rows r of the band, padding to whole tiles
  // included, and t < tokens; x[block·x_stride + t].
  using Multiply = void (*)(const TernaryTiles& matrix, size_t band, const ActivationBlock* x, size_t x_stride, size_t tokens,
                            float* y, size_t y_stride) noexcept;
  Multiply multiply[kTileFormats];  // null: not by this table

  // The one to repack a matrix into, by depth − 1.
  TileFormat formats[kDepths];
};

}  // namespace tritllm::kernels
