// Owns how a matrix is cut: rows into groups of 16, the last one of a row padded; groups into the runs that share a codebook; and
// the whole matrix into stripes, the unit of work. Consecutive groups always hold consecutive weights.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "codec/geometry.h"

namespace tritllm::codec {

struct WeightRange {
  uint64_t first;
  uint64_t count;
};

// The weights in groups [first_group, first_group + groups); groups beyond the matrix hold none.
inline WeightRange weights_in_groups(const MatrixShape& shape, uint64_t first_group, uint64_t groups) noexcept {
  const auto weights_before = [&](uint64_t group) {
    const uint64_t bounded = std::min(group, shape.groups()), row = bounded / shape.groups_per_row();
    return row * shape.columns + bounded % shape.groups_per_row() * kGroupSize;
  };
  const uint64_t first = weights_before(first_group);
  return {first, weights_before(first_group + groups) - first};
}

// Cuts the groups [first_group, first_group + groups) of the matrix after every `period` groups and calls
// body(first group of the piece, number of its groups).
template <typename Body>
void for_periods(const MatrixShape& shape, uint64_t period, uint64_t first_group, uint64_t groups, Body&& body) {
  const uint64_t end = std::min(first_group + groups, shape.groups());
  for (uint64_t group = first_group; group < end;) {
    const uint64_t next = std::min(end, (group / period + 1) * period);
    body(group, static_cast<size_t>(next - group));
    group = next;
  }
}

// Calls body(codebook, first group, number of groups) for each run of groups that share a codebook.
template <typename Body>
void for_codebooks(const MatrixShape& shape, uint64_t first_group, uint64_t groups, Body&& body) {
  const uint64_t period = shape.groups_per_codebook();
  for_periods(shape, period, first_group, groups,
              [&](uint64_t first, size_t count) { body(static_cast<size_t>(first / period), first, count); });
}

// Calls body(offset among the weights, offset among the padded groups, count) for each run of weights without padding inside.
template <typename Body>
void for_unpadded_runs(const MatrixShape& shape, uint64_t first_group, uint64_t groups, Body&& body) {
  if (shape.columns % kGroupSize == 0) {
    body(size_t{0}, size_t{0}, static_cast<size_t>(weights_in_groups(shape, first_group, groups).count));
    return;
  }
  size_t at = 0;
  for_periods(shape, shape.groups_per_row(), first_group, groups, [&](uint64_t first, size_t count) {
    const auto weights = static_cast<size_t>(weights_in_groups(shape, first, count).count);
    body(at, static_cast<size_t>(first - first_group) * kGroupSize, weights);
    at += weights;
  });
}

// padded: [groups][16], zeros as padding.
inline void pad_groups(const MatrixShape& shape, uint64_t first_group, uint64_t groups, const float* weights, float* padded) {
  std::fill_n(padded, groups * kGroupSize, 0.0f);
  for_unpadded_runs(shape, first_group, groups,
                    [&](size_t from, size_t to, size_t count) { std::copy_n(weights + from, count, padded + to); });
}

template <typename Value>
void strip_padding(const MatrixShape& shape, uint64_t first_group, uint64_t groups, const Value* padded, Value* weights) {
  for_unpadded_runs(shape, first_group, groups,
                    [&](size_t to, size_t from, size_t count) { std::copy_n(padded + from, count, weights + to); });
}

// A stripe is at least this many lines, unless the matrix ends first: enough for one call of a kernel to be worth it.
inline constexpr uint64_t kStripeLines = 1024;
// The longest row that is never cut: 262,144 weights, of which five are a stripe of 5 MiB in float32.
inline constexpr uint64_t kLongestWholeRow = uint64_t{1} << 14;  // groups

// Consecutive groups, whole lines of the format.
struct Stripe {
  uint64_t first_group;
  size_t groups;  // of the matrix
  size_t lines;   // the last line of a matrix may have room for up to four groups more

  uint64_t first_line() const noexcept { return first_group / kLineGroups; }
  size_t padded_groups() const noexcept { return lines * kLineGroups; }
};

// A matrix as stripes of 5·k whole rows: five rows of n groups are n whole lines, so that a stripe ends on a row and on a line.
// Only rows longer than kLongestWholeRow are cut, into stripes of kStripeLines lines, which bounds the memory of a stripe.
// The cut depends on the shape alone: error statistics are summed stripe by stripe, and must not depend on the run.
class Stripes {
 public:
  explicit Stripes(const MatrixShape& shape) noexcept : groups_(shape.groups()), lines_(shape.lines()) {
    const uint64_t row = shape.groups_per_row();  // five rows have as many lines
    whole_rows_ = row <= kLongestWholeRow;
    lines_per_stripe_ = !whole_rows_ || row == 0 ? kStripeLines : row * std::max<uint64_t>(1, kStripeLines / row);
  }

  size_t size() const noexcept { return static_cast<size_t>((lines_ + lines_per_stripe_ - 1) / lines_per_stripe_); }
  Stripe operator[](size_t index) const noexcept {
    const uint64_t first_line = index * lines_per_stripe_, first_group = first_line * kLineGroups;
    const uint64_t lines = std::min(lines_per_stripe_, lines_ - first_line);
    return {first_group, static_cast<size_t>(std::min(lines * kLineGroups, groups_ - first_group)), static_cast<size_t>(lines)};
  }
  bool whole_rows() const noexcept { return whole_rows_; }
  // Weights of the largest stripe, padding included.
  uint64_t largest() const noexcept { return std::min(lines_per_stripe_, lines_) * kLineGroups * kGroupSize; }

 private:
  uint64_t groups_, lines_, lines_per_stripe_;
  bool whole_rows_;
};

}  // namespace tritllm::codec
