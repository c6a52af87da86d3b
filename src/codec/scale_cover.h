// Owns the choice of the scales of a codebook that is to fit every group exactly: 27 numbers so that each group finds one among the
// scales that fit it. Does not own what fits a group (exact_scales.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codec/exact_scales.h"

namespace tritllm::codec {

// A group asks for any of these scales. Its set is not empty.
struct ScaleDemand {
  uint64_t group;
  ScaleSet scales;
};

struct ScaleCover {
  std::vector<float> scales;  // ascending
  bool complete = false;      // every demand is met; otherwise
  uint64_t unmet_group = 0;   // the first group that is not
};

// At most `most` scales. Where each demand is one range, the fewest that meet all. Groups of few levels leave several: they take a
// scale that others need anyway, and scales for the rest are found by a search that may miss what exists.
ScaleCover cover_demands(std::span<const ScaleDemand> demands, size_t most);

}  // namespace tritllm::codec
