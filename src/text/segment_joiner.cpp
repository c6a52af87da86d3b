#include "text/segment_joiner.h"

namespace tritllm {

bool SegmentJoiner::joins_previous(const Segment& segment) const {
  switch (behavior_) {
    case SplitBehavior::kRemoved:
    case SplitBehavior::kIsolated: return false;
    case SplitBehavior::kMergedWithPrevious: return segment.is_match && !previous_is_match_;
    case SplitBehavior::kMergedWithNext: return !segment.is_match && previous_is_match_;
    case SplitBehavior::kContiguous: return segment.is_match == previous_is_match_;
  }
  return false;
}

std::optional<TextSpan> SegmentJoiner::add(const Segment& segment) {
  std::optional<TextSpan> complete;
  if (open_ && joins_previous(segment)) {
    open_->end = segment.span.end;
  } else {
    complete = finish();
    if (behavior_ != SplitBehavior::kRemoved || !segment.is_match) open_ = segment.span;
  }
  previous_is_match_ = segment.is_match;
  return complete;
}

std::optional<TextSpan> SegmentJoiner::finish() {
  const std::optional<TextSpan> last = open_;
  open_.reset();
  if (last && last->begin == last->end) return std::nullopt;
  return last;
}

}  // namespace tritllm
