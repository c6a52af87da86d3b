// Owns how the 27 scales of a matrix are chosen from the scales that its groups would like. docs/codec.md derives each rule.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "codec/geometry.h"

namespace tritllm::codec {

using Codebook = std::array<float, kCodebookSize>;

// Recipe uniform: 27 scales in geometric progression from `smallest` to `largest`; zeros where both are 0.
Codebook geometric_codebook(float smallest, float largest);

// thresholds[j] is the geometric mean of scale_codes j and j + 1.
std::array<float, kCodebookSize - 1> nearest_thresholds(const Codebook& codebook);

// A step that some group would like, and how much the error grows as another takes its place: weight·(step − other)².
struct WeightedStep {
  float step;
  double weight;
};

// Recipe optimal: the 27 scales of least total error for these steps (reordered here) at a depth with this largest code, found by
// dynamic programming. None is above `largest_scale`.
Codebook clustered_codebook(std::vector<WeightedStep>& steps, int largest_code, float largest_scale);

}  // namespace tritllm::codec
