// Owns what both attention kernels share: which rows of a batch each kernel takes, the part of a row that a block takes, and the
// numbers of a softmax in powers of two.
#pragma once

#include "backend/cuda/cache_elements.cuh"

namespace tritllm::cuda {

inline constexpr float kLog2e = 1.4426950408889634f;
// Below every score, and finite: the difference of two of them is a number.
inline constexpr float kLowest = -1e30f;

// Whether attention_tiles.cu takes a row.
TRIT_DEVICE bool has_neighbours(const StepView& step, int row, int rows) {
  const int begin = row / kTileQueries * kTileQueries, end = min(begin + kTileQueries, rows);
  const uint32_t sequence = step.places[2 * row];
  int first = row, last = row;
  while (first > begin && step.places[2 * (first - 1)] == sequence) --first;
  while (last + 1 < end && step.places[2 * (last + 1)] == sequence) ++last;
  return last - first + 1 >= kFewestTogether;
}

inline constexpr int kAttentionThreads = 128;  // of a block that attends to a part of a row

// The positions [first, end) of a row that a block attends to, by one head of keys and values and `heads` heads of queries. Those
// before `begin` do not count: `first` is a multiple of 16.
struct PartOfRow {
  uint32_t first, begin, end;
  const uint32_t* pages;
  int layer, key_head, heads;

  // The keys of the page that has a position; its values follow.
  TRIT_DEVICE const std::byte* keys_of_page(const CacheView& cache, uint32_t position) const {
    return part_of_page(cache, layer, __ldg(pages + position / kPagePositions), key_head, 0);
  }
};

// attention_tiles.cu: the rows that lie in tiles. Not for caches of float32.
Status attend_tiles(const DeviceTraits& traits, const AttentionTask& task, const CacheView& cache, const StepView& step,
                    Stream stream);

}  // namespace tritllm::cuda
