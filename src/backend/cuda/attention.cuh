// Owns what both attention kernels share: where keys and values are in the cache, which rows of a batch each kernel takes, and the
// numbers of a softmax in powers of two.
#pragma once

#include "backend/cuda/launch.h"
#include "backend/cuda/ptx.cuh"

namespace tritllm::cuda {

inline constexpr float kLog2e = 1.4426950408889634f;
// Below every score, and finite: the difference of two of them is a number.
inline constexpr float kLowest = -1e30f;

// In elements. `part` 0: keys, 1: values.
TRIT_DEVICE int64_t cache_offset(const CacheView& cache, int layer, uint32_t page, int head, int part, int position) {
  return ((((static_cast<int64_t>(page) * cache.layers + layer) * cache.heads + head) * 2 + part) * kPagePositions + position) *
         cache.head_stride;
}

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

  // Of the key at a position, in elements.
  TRIT_DEVICE int64_t offset(const CacheView& cache, uint32_t position) const {
    return cache_offset(cache, layer, __ldg(pages + position / kPagePositions), key_head, 0,
                        static_cast<int>(position % kPagePositions));
  }
};

// attention_tiles.cu: the rows that lie in tiles. Halves in the cache only.
Status attend_tiles(const DeviceTraits& traits, const AttentionTask& task, const CacheView& cache, const StepView& step,
                    Stream stream);

}  // namespace tritllm::cuda
