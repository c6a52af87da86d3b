// Owns what becomes of the matches of a split: whether they go, stand alone or join their neighbours. Does not own matching.
#pragma once

#include <optional>

#include "text/pattern.h"

namespace tritllm {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Takes the segments of a text in order and gives the pieces that they make, in order and none of them empty.
class SegmentJoiner {
 public:
  explicit SegmentJoiner(SplitBehavior behavior) : behavior_(behavior) {}

  // The piece that is complete now that this segment is known not to join it, if there is one.
  std::optional<TextSpan> add(const Segment& segment);
  // The last piece.
  std::optional<TextSpan> finish();

 private:
  bool joins_previous(const Segment& segment) const;

  SplitBehavior behavior_;
  std::optional<TextSpan> open_;  // a piece that the next segment may still join
  bool previous_is_match_ = false;
};

}  // namespace tritllm
