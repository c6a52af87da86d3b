// Owns the inner part of attention over float32 for one row, by plain arithmetic. Does not own where positions come from, nor the
// merging of parts (attention.cu).
#pragma once

#include "backend/cuda/attention.cuh"
#include "backend/cuda/layout.h"

namespace tritllm::cuda {

inline constexpr int kTeam = 8, kTeams = kAttentionThreads / kTeam;
inline constexpr int kChunk = 8;   // elements that a lane loads at once
inline constexpr int kAtOnce = 2;  // positions whose keys and values a team asks for together
inline constexpr int kFloatPositions = kTeams * kAtOnce;

// Eight elements of a key or value as a lane loads them.
struct Chunk {
  float4 low, high;

  TRIT_DEVICE void load(const float* from, bool wanted) {
    low = wanted ? *reinterpret_cast<const float4*>(from) : make_float4(0, 0, 0, 0);
    high = wanted ? *(reinterpret_cast<const float4*>(from) + 1) : make_float4(0, 0, 0, 0);
  }
  TRIT_DEVICE void unpack(float (&values)[kChunk]) const {
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
  }
};

// Attention over float32 by the lanes' own arithmetic: eight lanes hold a position, sixteen positions are at work, each with sums
// of its own that are merged at the end. `kHeads` and `kChunks`, of a head's elements in a lane: together as many as registers
// allow.
template <int kHeads, int kChunks, typename QueryOf>
TRIT_DEVICE void attend_to_floats(const PartOfRow& part, const CacheView& cache, const QueryOf& query_of, float query_scale,
                                  float softcap, float* sums_of, float* largest_of, float* total_of) {
  constexpr int kWidth = kChunks * kTeam * kChunk;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, member = thread % kTeam;
  float queries[kHeads][kChunks][kChunk], sums[kHeads][kChunks][kChunk], largest[kHeads], totals[kHeads];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const float* from = query_of(min(h, part.heads - 1));
    largest[h] = kLowest, totals[h] = 0.0f;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        const int element = (member + kTeam * c) * kChunk + i;
        queries[h][c][i] = element < cache.head_width ? from[element] * query_scale : 0.0f;
        sums[h][c][i] = 0.0f;
      }
    }
  }

  const uint32_t team = static_cast<uint32_t>(thread / kTeam);
#pragma unroll 1
  for (uint32_t base = part.first; base < part.end; base += kFloatPositions) {
    Chunk keys[kAtOnce][kChunks], values[kAtOnce][kChunks];
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) {
      const uint32_t at = min(max(base + a * kTeams + team, part.begin), part.end - 1);
      const float* key =
          reinterpret_cast<const float*>(part.keys_of_page(cache, at)) + static_cast<int>(at % kPagePositions) * cache.head_stride;
      const float* value = key + cache.part_elements();
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const int element = (member + kTeam * c) * kChunk;
        keys[a][c].load(key + element, element < cache.head_stride);
        values[a][c].load(value + element, element < cache.head_stride);
      }
    }
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) {
      const uint32_t at = base + a * kTeams + team;
      const bool inside = at >= part.begin && at < part.end;
      float k[kChunks][kChunk], v[kChunks][kChunk];
#pragma unroll
      for (int c = 0; c < kChunks; ++c) keys[a][c].unpack(k[c]), values[a][c].unpack(v[c]);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        float score = 0.0f;
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
#pragma unroll
          for (int i = 0; i < kChunk; ++i) score = fmaf(queries[h][c][i], k[c][i], score);
        }
#pragma unroll
        for (int distance = 1; distance < kTeam; distance *= 2) score += __shfl_xor_sync(0xffffffffu, score, distance);
        if (softcap > 0.0f) score = softcap * kLog2e * tanhf(score);
        const float top = fmaxf(largest[h], inside ? score : kLowest), keep = exp2f(largest[h] - top);
        const float weight = inside ? exp2f(score - top) : 0.0f;
        largest[h] = top;
        totals[h] = fmaf(totals[h], keep, weight);
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
#pragma unroll
          for (int i = 0; i < kChunk; ++i) sums[h][c][i] = fmaf(sums[h][c][i], keep, weight * v[c][i]);
        }
      }
    }
  }

  // The four teams of a warp, then the warps.
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int distance = kTeam; distance < kLanes; distance *= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, largest[h], distance), top = fmaxf(largest[h], other);
      const float keep = exp2f(largest[h] - top), other_keep = exp2f(other - top);
      largest[h] = top;
      totals[h] = totals[h] * keep + __shfl_xor_sync(0xffffffffu, totals[h], distance) * other_keep;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          sums[h][c][i] = sums[h][c][i] * keep + __shfl_xor_sync(0xffffffffu, sums[h][c][i], distance) * other_keep;
        }
      }
    }
    if (lane < kTeam && h < part.heads) {
      if (lane == 0) largest_of[h] = largest[h], total_of[h] = totals[h];
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) sums_of[h * kWidth + (member + kTeam * c) * kChunk + i] = sums[h][c][i];
      }
    }
  }
}

}  // namespace tritllm::cuda
