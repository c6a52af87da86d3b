// Owns the way of packed weights to a warp, block by block and ahead of their use: through a ring in shared memory, or through
// registers. Does not own the layout (layout.h).
//
// Both are used alike: ask for an item's scale codes and blocks, each block followed by commit(); before a block is read, wait().
// Which is faster was measured for each kernel and depth (docs/lab/2026-11-cuda.md).
#pragma once

#include "backend/cuda/decode.cuh"

namespace tritllm::cuda {

// By asynchronous copies into shared memory. Each lane copies its own words and reads no others, so no barrier is needed. Against
// registers, the compiler can wait for one block without waiting for those behind it.
//
// kSlots: blocks on their way. They divide the blocks of an item: four, of dense weights one.
template <int kDepth, int kSlots>
struct WeightRing {
  static constexpr int kBlockWords = block_words(kDepth), kBlockBytes = static_cast<int>(block_bytes(kDepth));
  static constexpr int kBytes = kSlots * kBlockBytes + scale_words(kDepth) * kLanes * 4;

  uint32_t base;  // of kBytes in shared memory, a multiple of 16
  int lane;

  // Nothing where the item has no such block; `count` is how many it has.
  TRIT_DEVICE void ask_for_block(const uint8_t* item, int block, int count) const {
    copy_run<kBlockWords>(base + block % kSlots * kBlockBytes, item + block * kBlockBytes, lane, block < count);
  }
  // They lie behind the item's blocks, and come with the block that is asked for next.
  TRIT_DEVICE void ask_for_scales(const uint8_t* item, int count) const {
#pragma unroll
    for (int i = 0; i < scale_words(kDepth); ++i) {
      const int at = (i * kLanes + lane) * 4;
      copy_async_where<4>(base + kSlots * kBlockBytes + at, item + count * kBlockBytes + at, count > 0);
    }
  }
  TRIT_DEVICE void commit() const { commit_copies(); }
  TRIT_DEVICE void wait() const { wait_for_copies<kSlots - 1>(); }
  // A slot may be asked for again as soon as it is read.
  TRIT_DEVICE void read_block(uint32_t (&words)[kBlockWords], int block) const {
    read_run<kBlockWords>(words, base + block % kSlots * kBlockBytes, lane);
  }
  TRIT_DEVICE void read_scales(uint32_t (&words)[kScaleWords]) const {
#pragma unroll
    for (int i = 0; i < scale_words(kDepth); ++i) read_shared1(words[i], base + kSlots * kBlockBytes + (i * kLanes + lane) * 4);
  }
};

// By loads into registers.
template <int kDepth, int kSlots>
struct WeightRegisters {
  static constexpr int kBlockWords = block_words(kDepth), kBytes = 0;

  int lane;
  uint32_t words[kSlots][kBlockWords], scales[kScaleWords];

  TRIT_DEVICE void ask_for_block(const uint8_t* item, int block, int count) {
    load_run<kBlockWords>(words[block % kSlots], item + static_cast<size_t>(block) * block_bytes(kDepth), lane, block < count);
  }
  TRIT_DEVICE void ask_for_scales(const uint8_t* item, int count) {
    if constexpr (kDepth > 0) load_scale_words(scales, item + static_cast<size_t>(count) * block_bytes(kDepth), lane, count > 0);
  }
  TRIT_DEVICE void commit() const {}
  TRIT_DEVICE void wait() const {}
  TRIT_DEVICE void read_block(uint32_t (&to)[kBlockWords], int block) const {
#pragma unroll
    for (int i = 0; i < kBlockWords; ++i) to[i] = words[block % kSlots][i];
  }
  TRIT_DEVICE void read_scales(uint32_t (&to)[kScaleWords]) const {
#pragma unroll
    for (int i = 0; i < kScaleWords; ++i) to[i] = kDepth > 0 ? scales[i] : 0;
  }
};

}  // namespace tritllm::cuda
