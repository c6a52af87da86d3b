// Owns the step between a matrix as rows of weights and a matrix as groups of 16: rows whose length is no multiple of 16 end in a
// padded group. Consecutive groups always hold consecutive weights.
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

// Calls body(offset among the weights, offset among the padded groups, count) for each run of weights without padding inside.
template <typename Body>
void for_unpadded_runs(const MatrixShape& shape, uint64_t first_group, uint64_t groups, Body&& body) {
  if (shape.columns % kGroupSize == 0) {
    body(size_t{0}, size_t{0}, static_cast<size_t>(weights_in_groups(shape, first_group, groups).count));
    return;
  }
  const uint64_t per_row = shape.groups_per_row(), end = std::min(first_group + groups, shape.groups());
  size_t at = 0;
  for (uint64_t group = first_group; group < end;) {
    const uint64_t row_end = std::min(end, (group / per_row + 1) * per_row);
    const auto count = static_cast<size_t>(weights_in_groups(shape, group, row_end - group).count);
    body(at, static_cast<size_t>(group - first_group) * kGroupSize, count);
    at += count;
    group = row_end;
  }
}

// padded: [groups][16], zeros where there is no weight.
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

}  // namespace tritllm::codec
