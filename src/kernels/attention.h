// Owns what the attention kernels are told: the layout of cached keys and values, a task, and what it leaves. Does not own the
// cache's memory or which tasks there are (src/backend).
//
// Positions are cut into spans at fixed places. A row's result is a sum over its span in ascending order, and spans are merged in
// ascending order: the same bits whatever rows share a task and whichever thread computes it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tritllm::kernels {

// An element of kFloat8 or kInt8 is its code times a scale. Each position has one for a head's key and one for its value: the least
// half that is not below (largest magnitude) / 448 or / 127. A key or value with an element that is not finite has NaN as its
// scale.
enum class CacheType : uint8_t { kFloat32, kFloat16, kFloat8, kInt8 };
inline constexpr size_t kCacheTypes = 4;
constexpr bool has_scales(CacheType type) noexcept { return type == CacheType::kFloat8 || type == CacheType::kInt8; }

// A code of core/half.h.
struct Float8 {
  uint8_t bits;
};

// Keys of a head lie in tiles of this many positions, [tile][head_stride][kCacheTile], so that one vector holds the same element of
// neighbouring positions and a score needs no sum across a vector. Values lie in strips of this many elements,
// [head_stride / kCacheTile][positions][kCacheTile], so that a strip of the result reads forward.
inline constexpr size_t kCacheTile = 16;

// A multiple of kCacheTile. Spans start at multiples of it.
inline constexpr size_t kSpanPositions = 512;

// Rows of scores do not lie a power of two apart, which would put them into the same sets of a cache.
inline constexpr size_t kScoreStride = kSpanPositions + kCacheTile;

// Scratch for keys or values that are converted once for many rows.
inline constexpr size_t kPanelPositions = 256;
constexpr size_t attention_panel_floats(size_t head_stride) noexcept {
  return 2 * kCacheTile * (head_stride > kPanelPositions ? head_stride : kPanelPositions);
}

// Positions of a span, counted from its first.
struct PositionRange {
  uint32_t first, end;
};

// Attention over some positions, not yet divided by the sum of weights. A row that saw none has a total of 0.
struct AttentionState {
  float* sums;     // [rows][head_stride]: Σ e^(score − largest)·value
  float* largest;  // [rows]
  float* totals;   // [rows]: Σ e^(score − largest)
};

// Attention of several rows, each a token in one head, to one span of the key/value head that they share.
struct AttentionTask {
  const float* queries;       // [rows][head_stride], times the scale of scores, zeros beyond the head's width
  const PositionRange* seen;  // [rows]
  size_t rows;
  size_t head_stride;            // padded_row(head width)
  const void* keys;              // of the span's first position
  const void* values;            // the same for values
  size_t value_stride;           // positions from one strip of values to the next
  const uint16_t* key_scales;    // [positions], halves; null where elements have none
  const uint16_t* value_scales;  // the same for values
  float softcap;                 // scores become softcap·tanh(score / softcap); 0: they stay
  float* scores;                 // scratch: [rows][kScoreStride]
  float* panel;                  // scratch: attention_panel_floats(head_stride)
  AttentionState state;          // is overwritten
};

}  // namespace tritllm::kernels
