// Owns the list of inner loops that multiply ternary matrices by integers, and the form of the activations that they read. Each
// instruction set fills one table; the scalar one (scalar/ternary_kernels.cpp) is the specification. docs/kernels.md has the
// arithmetic and what it costs in quality.
//
// Every table gives the same bits, up to its most_exact_tokens: within a group all is integer, and the groups of an output (at
// depth 1 its blocks) are added in ascending order by fused multiplications. So an output depends neither on the machine nor on the
// other tokens or rows of a call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ternary_tiles.h"

namespace tritllm::kernels {

// 16 activations of a token for depths 2 to 4: x[i] ≈ scale·values[i].
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
    uint16_t halves[kTileColumns];  // BF16, for tables that multiply many tokens so, at every depth
  };
};

// A token's part of a block of columns for depth 1, whose few codes ask for finer activations: x[i] ≈ scale·values[i], 13 bits.
struct alignas(64) FineActivations {
  int16_t values[kTileColumns];
  float scale;  // as that of a group
};

// The same as sums that codes can make of the values of three columns: those of the balanced ternary numbers 0 to 13 as which tiles
// hold three codes. A vector shuffle looks them up for 16 rows.
inline constexpr int32_t kHighUnit = 32;
struct alignas(64) TripleSums {
  // [triple][group][number], and at last those of the last column, [group][code + 2]: the sum is low + kHighUnit·high,
  // −16 ≤ low < 16. Numbers that no codes make give 0.
  int8_t low[kGroupTriples + 1][kTileGroups][16], high[kGroupTriples + 1][kTileGroups][16];
  float scale;
};

// Where the reach (below) is less than this, all activations are taken as zeros, so that the reciprocal of a scale is finite.
inline constexpr float kLeastActivation = 1e-30f;

// The most that eight values that meet in 16 bits may add to, as magnitudes, for their products with any codes to fit there.
constexpr int32_t most_in_half(TileFormat format) noexcept { return 32767 / format_largest_code(format); }
constexpr bool halves_may_overflow(TileFormat format) noexcept { return most_in_half(format) < 8 * 127; }  // depth 4
// A group's values are x·127/reach, where reach is the largest |x| and, where halves may overflow, no less than this part of the
// eight magnitudes' sum: rounding adds at most a half to each. The sum's order is ((x[j] + x[j+4]) + (x[j+8] + x[j+12])) for j and
// j + 1, j even, as magnitudes.
constexpr float reach_of_half(TileFormat format) noexcept { return 127.0f / static_cast<float>(most_in_half(format) - 4); }

// At depth 1 the magnitudes of a group's values add to at most this: then its six low parts, and its six high ones, add to no more
// than a signed byte holds. The reach of a block is the larger of its groups' sums of magnitudes, added as above and then one half
// to the other, and values are x·kFineReach/reach: rounding adds at most 8.
inline constexpr int32_t kMostInFineGroup = 127 * kHighUnit - static_cast<int32_t>(kGroupTriples + 1) * kHighUnit / 2;
inline constexpr float kFineReach = static_cast<float>(kMostInFineGroup - 8);

// The products with matrices of one format, and the form of activations that they read. All null where a table has none.
struct TernaryFormatKernels {
  // Bytes of a token's part of a block of columns in that form, whole cache lines, for batches of this size.
  size_t (*activation_bytes)(size_t tokens) noexcept;

  // One of `tokens` tokens' activations x[columns] (columns a multiple of 16): its part of block b < blocks_of(columns) goes to
  // out + b·out_stride parts. A group's scale is its reach / 127, at depth 1 a block's its reach / kFineReach; ties round to even.
  void (*quantize)(const float* x, size_t columns, size_t tokens, void* out, size_t out_stride) noexcept;

  // y[t·y_stride + r] = unit·Σ_g scale_t,g·(multiple_r,g·Σ_c code·value) for the rows r of the band, padding to whole tiles
  // included, and t < tokens; token t's part of block b is x + b·x_stride + t parts. At depth 1 a block's two groups are added in
  // whole numbers before they are scaled.
  void (*multiply)(const TernaryTiles& matrix, size_t band, const void* x, size_t x_stride, size_t tokens, float* y,
                   size_t y_stride) noexcept;
};

// For tables that unpack a band's weights anew for every few tokens.
inline constexpr size_t kUsualActivationBytesAtOnce = size_t{4} << 20;

struct TernaryKernels {
  const char* name;

  // Products of more tokens than these round in another way than the specification (AMX: to BF16).
  size_t most_exact_tokens;

  // Activations, in the form of a product, that are worth making ready at once: each band of weights reads them again, from a
  // cache.
  size_t activation_bytes_at_once;

  TernaryFormatKernels products[kTileFormats];

  // The one to repack a matrix into, by depth − 1.
  TileFormat formats[kDepths];
};

}  // namespace tritllm::kernels
