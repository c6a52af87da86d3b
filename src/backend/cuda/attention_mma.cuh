// Owns the inner part of attention over halves and eight-bit elements for one row: scores and weighted sums on the tensor cores, up
// to eight query heads that share keys and values at a time. Does not own where positions come from, nor the merging of parts
// (attention.cu).
//
// Eight heads are half of the 16 rows of an mma. The other half has what rounding to halves takes away from queries and weights, so
// the results are as good as with float32. A warp takes 16 positions at a time. Elements of keys stand in another order than their
// own (the same for queries), such that a lane loads 16 bytes at once; elements of values likewise. The next positions' keys are
// asked for as soon as these have their scores, and the values as soon as these are added up, so that memory is never idle.
#pragma once

#include "backend/cuda/attention.cuh"

namespace tritllm::cuda {

// A number as the sum of two halves.
struct SplitPair {
  uint32_t high, low;

  TRIT_DEVICE static SplitPair of(float a, float b) {
    const half2 high = __floats2half2_rn(a, b);
    return {as_word(high), as_word(__floats2half2_rn(a - __low2float(high), b - __high2float(high)))};
  }
};

// The words that the warp's lanes hold of the queries as A operands, [step][lane], in shared memory. Step 2c + e multiplies
// elements (4c + t)·8 + 4e + {0, 1} and {2, 3} in lane (g, t); row g is head g.
template <int kWidth>
struct QueryOperands {
  static constexpr int kSteps = kWidth / 16;
  uint4 words[kSteps][32];

  // All threads of the block take part. query_of(head): the head's elements; those beyond `width` are zeros.
  template <typename QueryOf>
  TRIT_DEVICE void fill(const QueryOf& query_of, int heads, int width, float scale, int thread, int threads) {
    for (int i = thread; i < kSteps * 32; i += threads) {
      const int step = i / 32, head = i % 32 / 4, element = (step / 2 * 4 + i % 4) * 8 + step % 2 * 4;
      float values[4] = {};
      if (head < heads) {
        const float* const query = query_of(head);
#pragma unroll
        for (int j = 0; j < 4; ++j) values[j] = element + j < width ? query[element + j] * scale : 0.0f;
      }
      const SplitPair first = SplitPair::of(values[0], values[1]), second = SplitPair::of(values[2], values[3]);
      words[step][i % 32] = make_uint4(first.high, first.low, second.high, second.low);
    }
  }
};

// Sixteen positions of a page from `first` on, a multiple of 16; of these only [begin, end) count, at least one, and others are not
// read.
struct Positions {
  const std::byte* keys;  // the page's; its values follow
  int first, begin, end;

  TRIT_DEVICE int place(int position) const { return first + min(max(position, begin), end - 1); }
  TRIT_DEVICE bool counts(int position) const { return position >= begin && position < end; }
  // Of lane t's four, in the order of the values' operand.
  TRIT_DEVICE static int own(int i, int t) { return i / 2 * 8 + 2 * t + i % 2; }
};

// The keys and values of sixteen positions as a warp's lanes hold them.
template <typename Element, int kWidth>
struct LoadedPositions {
  static constexpr int kParts = kWidth / 64, kChunks = kWidth / 32;

  Eight<Element> keys[2][kChunks], values[4][kParts];
  __half key_scales[4], value_scales[4];  // of a lane's own positions; set where elements have eight bits

  TRIT_DEVICE void load_keys(const CacheView& cache, const Positions& at, int lane) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const Element* const from = row(cache, at.keys, at.place(8 * n + g));
#pragma unroll
      for (int c = 0; c < kChunks; ++c) keys[n][c] = load(from, (4 * c + t) * 8, cache.head_stride);
    }
    load_scales(key_scales, cache, at.keys, at, t);
  }

  TRIT_DEVICE void load_values(const CacheView& cache, const Positions& at, int lane) {
    const int g = lane / 4, t = lane % 4;
    const std::byte* const part = at.keys + cache.part_bytes();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Element* const from = row(cache, part, at.place(Positions::own(i, t)));
#pragma unroll
      for (int p = 0; p < kParts; ++p) values[i][p] = load(from, (8 * p + g) * 8, cache.head_stride);
    }
    load_scales(value_scales, cache, part, at, t);
  }

 private:
  TRIT_DEVICE static const Element* row(const CacheView& cache, const std::byte* part, int position) {
    return reinterpret_cast<const Element*>(part) + position * cache.head_stride;
  }
  TRIT_DEVICE static Eight<Element> load(const Element* from, int element, int stride) {
    return element < stride ? Eight<Element>::load(from + element) : Eight<Element>::zeros();
  }
  TRIT_DEVICE static void load_scales(__half (&scales)[4], const CacheView& cache, const std::byte* part, const Positions& at,
                                      int t) {
    if constexpr (kHasScales<Element>) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scales[i] = scales_of(cache, part)[at.place(Positions::own(i, t))];
    }
  }
};

// What a warp knows of its positions so far: of head g, in the four lanes of g.
template <int kWidth>
struct WarpSums {
  static constexpr int kParts = kWidth / 64;  // of 64 elements; lane (g, t) has elements (8·part + 2t)·8 to + 15 of head g

  float sums[kParts][8][4] = {};  // [element of eight]: 0 and 2 belong to the first eight, 1 and 3 to the second
  float largest = kLowest, total = 0.0f;

  // The scores of a lane's own positions, by their keys.
  template <typename Element>
  TRIT_DEVICE static void score(float (&scores)[4], const LoadedPositions<Element, kWidth>& loaded,
                                const QueryOperands<kWidth>& queries, int lane) {
    float sums[2][4] = {};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int c = 0; c < kWidth / 32; ++c) {
        const uint4 a = queries.words[2 * c][lane], b = queries.words[2 * c + 1][lane], halves = halves_of(loaded.keys[n][c]);
        mma_16x8x16(sums[n], a.x, a.y, a.z, a.w, halves.x, halves.y);
        mma_16x8x16(sums[n], b.x, b.y, b.z, b.w, halves.z, halves.w);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[i] = sums[i / 2][i % 2] + sums[i / 2][i % 2 + 2];
      if constexpr (kHasScales<Element>) scores[i] *= __half2float(loaded.key_scales[i]) * kUnit<Element>;
    }
  }

  // Takes the values in, by those scores.
  template <typename Element>
  TRIT_DEVICE void add(const Positions& at, const float (&scores)[4], const LoadedPositions<Element, kWidth>& loaded, float softcap,
                       int lane) {
    const int t = lane % 4;
    float weights[4], top = largest;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      weights[i] = softcap > 0.0f ? softcap * kLog2e * tanhf(scores[i]) : scores[i];
      if (at.counts(Positions::own(i, t))) top = fmaxf(top, weights[i]);
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    const float keep = exp2f(largest - top);
    largest = top;
    total *= keep;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      weights[i] = at.counts(Positions::own(i, t)) ? exp2f(weights[i] - top) : 0.0f;
      total += weights[i];
    }
    const SplitPair first = SplitPair::of(weights[0], weights[1]), second = SplitPair::of(weights[2], weights[3]);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      uint32_t rows[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint4 halves = halves_of(loaded.values[i][part]);
        if constexpr (kHasScales<Element>) halves = times(halves, factor_of<Element>(loaded.value_scales[i]));
        rows[i][0] = halves.x, rows[i][1] = halves.y, rows[i][2] = halves.z, rows[i][3] = halves.w;
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const uint32_t half = i % 2 == 0 ? 0x5410 : 0x7632;  // of the words: the low halves, or the high ones
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[part][i][j] *= keep;
        mma_16x8x16(sums[part][i], first.high, first.low, second.high, second.low,
                    __byte_perm(rows[0][i / 2], rows[1][i / 2], half), __byte_perm(rows[2][i / 2], rows[3][i / 2], half));
      }
    }
  }

  // Of `heads` heads into memory; to[head][kWidth].
  TRIT_DEVICE void store(float* to, float* largest_of, float* total_of, int heads, int lane) {
    const int g = lane / 4, t = lane % 4;
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    if (g >= heads) return;
    if (t == 0) largest_of[g] = largest, total_of[g] = total;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        float4* const out = reinterpret_cast<float4*>(to + g * kWidth + (8 * part + 2 * t + second) * 8);
        const auto& s = sums[part];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          out[i] = make_float4(s[4 * i][second] + s[4 * i][second + 2], s[4 * i + 1][second] + s[4 * i + 1][second + 2],
                               s[4 * i + 2][second] + s[4 * i + 2][second + 2], s[4 * i + 3][second] + s[4 * i + 3][second + 2]);
        }
      }
    }
  }
};

}  // namespace tritllm::cuda
