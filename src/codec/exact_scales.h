// Owns the question which scales give the weights of one group back exactly. Decoding is monotone in the scale, so the answer is a
// few ranges of float32 numbers, whose ends are found by search and hold to the last bit. Does not own the choice of 27 scales for
// all groups of a matrix (scale_cover.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codec/geometry.h"

namespace tritllm::codec {

// What happens to a decoded weight, a float32, before it is compared with the source's: the roundings that a source may have been
// through since it was ternary.
enum class Rounding : uint8_t { kNone, kHalf, kBfloat16, kHalfThenBfloat16 };

// code · (scale / largest_code), rounded to float32 twice as decoders do, then as told.
float decoded_weight(int code, float scale, int largest_code, Rounding rounding) noexcept;

// Positive float32 numbers from `least` to `most`, as bits: they ascend as the numbers do.
struct ScaleRange {
  uint32_t least, most;

  bool holds(const ScaleRange& other) const noexcept { return least <= other.least && other.most <= most; }
  bool operator==(const ScaleRange&) const = default;
};

// Ascending, apart from each other.
using ScaleSet = std::vector<ScaleRange>;

// All scales up to 65504 with which some codes give every weight of the group back, by magnitude. Empty: there is none. The group
// must hold a weight that is not zero; all must be finite.
ScaleSet fitting_scales(std::span<const float> group, int largest_code, Rounding rounding);

// How near a scale comes to a group.
struct GroupFit {
  float scale = 0.0f;
  size_t different = 0;                 // weights that it does not give back
  size_t worst = 0;                     // the one farthest off,
  float stored = 0.0f, nearest = 0.0f;  // as the source has it and as the scale gives it
};

// For messages: of these scales the one that gives most weights back, or comes nearest where several do.
GroupFit nearest_fit(std::span<const float> group, std::span<const float> scales, int largest_code, Rounding rounding);
// The same over all scales that give at least one weight back.
GroupFit nearest_fit(std::span<const float> group, int largest_code, Rounding rounding);

}  // namespace tritllm::codec
