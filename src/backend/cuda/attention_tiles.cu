// Owns attention of many queries of one sequence, as in a prompt, on tensor cores: a tile of up to 64 queries of one head walks
// over the pages of its sequence. A warp has 16 queries; keys and values of a page come to shared memory while the page before is
// worked on.
#include "backend/cuda/attention.cuh"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/layout.h"

namespace tritllm::cuda {
namespace {

constexpr int kWarps = kTileQueries / 16, kThreads = kWarps * kLanes;

TRIT_DEVICE void load_matrices_transposed(uint32_t (&words)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

// Heads are padded to kDims elements in shared memory: rows of halves in pieces of 16 bytes, piece p of row r at p XOR (r mod 8).
template <int kDims>
struct Tile {
  static constexpr int kPieces = kDims / 8, kBytes = kTileQueries * kDims * 2;
  static_assert(kTileQueries == kPagePositions);

  TRIT_DEVICE static uint32_t place(int row, int piece) {
    return static_cast<uint32_t>(row * kDims * 2 + (piece ^ (row % 8)) * 16);
  }
};

constexpr int stages_of(int dims) { return dims <= 128 ? 2 : 1; }

// The end of the run of rows of one sequence that begins at `begin`, at most `rows`. All lanes of a warp come here.
TRIT_DEVICE int end_of_run(const StepView& step, int tile_row, int begin, int rows, int lane) {
  const uint32_t sequence = step.places[2 * (tile_row + begin)];
  for (int first = begin; first < rows; first += kLanes) {
    const int row = first + lane;
    const uint32_t others = __ballot_sync(0xffffffffu, row < rows && step.places[2 * (tile_row + min(row, rows - 1))] != sequence);
    if (others != 0) return first + __ffs(static_cast<int>(others)) - 1;
  }
  return rows;
}

// Eight elements of a head of queries from `element` on, scaled, as halves; zeros beyond `width`.
TRIT_DEVICE uint4 load_queries(const float* head, int element, int width, float scale) {
  float values[8];
  if (width % 4 == 0 && element + 8 <= width) {
    const float4 a = *reinterpret_cast<const float4*>(head + element), b = *reinterpret_cast<const float4*>(head + element + 4);
    values[0] = a.x, values[1] = a.y, values[2] = a.z, values[3] = a.w;
    values[4] = b.x, values[5] = b.y, values[6] = b.z, values[7] = b.w;
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = element + i < width ? head[element + i] : 0.0f;
  }
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = as_word(__floats2half2_rn(values[2 * i] * scale, values[2 * i + 1] * scale));
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// Eight elements of a row of keys or values into shared memory as halves, or zeros. Halves are still on their way when it returns.
template <typename Element>
TRIT_DEVICE void copy_piece(uint8_t* to, const CacheView& cache, const std::byte* part, int row, int piece, bool inside) {
  const auto* const from = reinterpret_cast<const Element*>(part) + (inside ? row * cache.head_stride + piece * 8 : 0);
  if constexpr (kHasScales<Element>) {
    const uint4 halves = times(halves_of(Eight<Element>::load(from)), factor_of<Element>(scales_of(cache, part)[row]));
    *reinterpret_cast<uint4*>(to) = inside ? halves : make_uint4(0, 0, 0, 0);
  } else {
    copy_async_part(shared_address(to), from, inside ? 16 : 0);
  }
}

template <typename Element, int kDims>
__global__ void __launch_bounds__(kThreads) attend_tiles_kernel(AttentionTask task, CacheView cache, StepView step) {
  using Rows = Tile<kDims>;
  constexpr int kStages = stages_of(kDims), kOutTiles = kDims / 8;
  extern __shared__ __align__(128) uint8_t memory[];
  allow_next_kernel();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes, g = lane / 4, t = lane % 4;
  // Late tiles see the most positions: they begin first.
  const int tile = static_cast<int>(gridDim.x) - 1 - static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int key_head = head / (task.heads / cache.heads), tile_row = tile * kTileQueries;
  const int rows = min(kTileQueries, task.queries.count - tile_row);
  const uint32_t queries = shared_address(memory), stages = queries + Rows::kBytes;
  wait_for_previous_kernel();

  for (int begin = 0, end; begin < rows; begin = end) {
    const uint32_t sequence = step.places[2 * (tile_row + begin)];
    end = end_of_run(step, tile_row, begin, rows, lane);
    if (end - begin < kFewestTogether) continue;
    const int first_row = tile_row + begin, count = end - begin;
    const uint32_t* pages = step.pages + static_cast<int64_t>(sequence) * step.pages_of_sequence;
    const uint32_t lowest = step.places[2 * first_row + 1], highest = step.places[2 * (first_row + count - 1) + 1];
    const uint32_t first_key = task.window != 0 && lowest >= task.window ? lowest - task.window + 1 : 0;
    const int first_page = static_cast<int>(first_key / kPagePositions), end_page = static_cast<int>(highest / kPagePositions) + 1;

    __syncthreads();  // of the run of rows before
    const float query_scale = task.softcap > 0.0f ? task.scale / task.softcap : task.scale * kLog2e;
#pragma unroll 2
    for (int turn = 0; turn < kTileQueries * Rows::kPieces / kThreads; ++turn) {
      // Rows beyond the last one are like it: nobody reads what becomes of them.
      const int i = turn * kThreads + thread, row = i / Rows::kPieces, piece = i % Rows::kPieces;
      const float* from = task.queries.data + (first_row + min(row, count - 1)) * task.queries.stride +
                          static_cast<int64_t>(head) * cache.head_width;
      *reinterpret_cast<uint4*>(memory + Rows::place(row, piece)) = load_queries(from, piece * 8, cache.head_width, query_scale);
    }
    // Positions beyond the last one that any row sees are not read: they may hold what another sequence left.
    const auto copy_page = [&](int page, int stage) {
      if (page < end_page) {
        const std::byte* keys = part_of_page(cache, task.layer, __ldg(pages + page), key_head, 0);
        const std::byte* values = keys + cache.part_bytes();
        const auto offset = static_cast<uint32_t>(Rows::kBytes * (1 + stage * 2));
#pragma unroll 4
        for (int turn = 0; turn < kPagePositions * Rows::kPieces / kThreads; ++turn) {
          const int i = turn * kThreads + thread, row = i / Rows::kPieces, piece = i % Rows::kPieces;
          const bool inside = static_cast<uint32_t>(page * kPagePositions + row) <= highest && piece * 8 < cache.head_stride;
          const uint32_t to = offset + Rows::place(row, piece);
          copy_piece<Element>(memory + to, cache, keys, row, piece, inside);
          copy_piece<Element>(memory + to + Rows::kBytes, cache, values, row, piece, inside);
        }
      }
      commit_copies();
    };
    copy_page(first_page, 0);

    const int own = 16 * warp;
    const bool working = own < count;
    const uint32_t position = step.places[2 * (first_row + min(own + g, count - 1)) + 1];
    const uint32_t position8 = step.places[2 * (first_row + min(own + g + 8, count - 1)) + 1];
    float sums[kOutTiles][4], largest[2] = {kLowest, kLowest}, totals[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < kOutTiles; ++n) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0.0f;

    for (int page = first_page; page < end_page; ++page) {
      const int stage = kStages == 1 ? 0 : (page - first_page) % kStages;
      if constexpr (kStages > 1) {
        copy_page(page + 1, (page + 1 - first_page) % kStages);
        wait_for_copies<1>();
      } else {
        wait_for_copies<0>();
      }
      __syncthreads();
      if (working) {
        const uint32_t keys = stages + static_cast<uint32_t>(stage * 2 * Rows::kBytes), values = keys + Rows::kBytes;
        float scores[8][4];
#pragma unroll
        for (int n = 0; n < 8; ++n) scores[n][0] = scores[n][1] = scores[n][2] = scores[n][3] = 0.0f;
        const int matrix = lane / 8, line = lane % 8;
#pragma unroll
        for (int k = 0; k < kDims / 16; ++k) {
          uint32_t a[4];
          load_matrices(a, queries + Rows::place(own + matrix % 2 * 8 + line, 2 * k + matrix / 2));
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            uint32_t b[4];
            load_matrices(b, keys + Rows::place(16 * n + matrix / 2 * 8 + line, 2 * k + matrix % 2));
            mma_16x8x16(scores[2 * n], a[0], a[1], a[2], a[3], b[0], b[1]);
            mma_16x8x16(scores[2 * n + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
          }
        }
        if (task.softcap > 0.0f) {
#pragma unroll
          for (int n = 0; n < 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) scores[n][i] = task.softcap * kLog2e * tanhf(scores[n][i]);
          }
        }
        // Most pages lie before all queries of the tile, and are seen whole.
        if (task.window != 0 || static_cast<uint32_t>((page + 1) * kPagePositions) > lowest + 1) {
#pragma unroll
          for (int n = 0; n < 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const uint32_t key = static_cast<uint32_t>(page * kPagePositions + n * 8 + 2 * t + i % 2),
                             query = i < 2 ? position : position8;
              const bool seen = key <= query && (task.window == 0 || query - key < task.window);
              if (!seen) scores[n][i] = -INFINITY;
            }
          }
        }
        float tops[2] = {largest[0], largest[1]};
#pragma unroll
        for (int n = 0; n < 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) tops[i / 2] = fmaxf(tops[i / 2], scores[n][i]);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          tops[half] = fmaxf(tops[half], __shfl_xor_sync(0xffffffffu, tops[half], 1));
          tops[half] = fmaxf(tops[half], __shfl_xor_sync(0xffffffffu, tops[half], 2));
          const float keep = exp2f(largest[half] - tops[half]);
          largest[half] = tops[half];
          totals[half] *= keep;
#pragma unroll
          for (int n = 0; n < kOutTiles; ++n) sums[n][2 * half] *= keep, sums[n][2 * half + 1] *= keep;
        }
#pragma unroll
        for (int n = 0; n < 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            scores[n][i] = exp2f(scores[n][i] - largest[i / 2]);
            totals[i / 2] += scores[n][i];
          }
        }
#pragma unroll
        for (int k = 0; k < kPagePositions / 16; ++k) {
          const uint32_t a0 = as_word(__floats2half2_rn(scores[2 * k][0], scores[2 * k][1]));
          const uint32_t a1 = as_word(__floats2half2_rn(scores[2 * k][2], scores[2 * k][3]));
          const uint32_t a2 = as_word(__floats2half2_rn(scores[2 * k + 1][0], scores[2 * k + 1][1]));
          const uint32_t a3 = as_word(__floats2half2_rn(scores[2 * k + 1][2], scores[2 * k + 1][3]));
#pragma unroll
          for (int n = 0; n < kDims / 16; ++n) {
            uint32_t b[4];
            load_matrices_transposed(b, values + Rows::place(16 * k + matrix % 2 * 8 + line, 2 * n + matrix / 2));
            mma_16x8x16(sums[2 * n], a0, a1, a2, a3, b[0], b[1]);
            mma_16x8x16(sums[2 * n + 1], a0, a1, a2, a3, b[2], b[3]);
          }
        }
      }
      __syncthreads();
      if constexpr (kStages == 1) copy_page(page + 1, 0);
    }
    wait_for_copies<0>();
    if (!working) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      totals[half] += __shfl_xor_sync(0xffffffffu, totals[half], 1);
      totals[half] += __shfl_xor_sync(0xffffffffu, totals[half], 2);
      const int row = own + g + 8 * half;
      if (row >= count) continue;
      float* out = task.out.data + (first_row + row) * task.out.stride + static_cast<int64_t>(head) * cache.head_width;
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int element = n * 8 + 2 * t + i;
          if (element < cache.head_width) out[element] = sums[n][2 * half + i] / totals[half];
        }
      }
    }
  }
}

template <typename Element, int kDims>
Status launch_tiles(const DeviceTraits& traits, const AttentionTask& task, const CacheView& cache, const StepView& step,
                    Stream stream) {
  const dim3 grid(static_cast<unsigned>((task.queries.count + kTileQueries - 1) / kTileQueries), static_cast<unsigned>(task.heads));
  return launch_kernel(attend_tiles_kernel<Element, kDims>, traits, grid, kThreads,
                       Tile<kDims>::kBytes * (1 + 2 * stages_of(kDims)), stream, task, cache, step);
}

}  // namespace

Status attend_tiles(const DeviceTraits& traits, const AttentionTask& task, const CacheView& cache, const StepView& step,
                    Stream stream) {
  return with_element_type(cache, [&](auto element) {
    // attend() sends no float32 here: no kernel is made for it.
    using Element = std::conditional_t<std::is_same_v<decltype(element), float>, __half, decltype(element)>;
    if (cache.head_stride <= 64) return launch_tiles<Element, 64>(traits, task, cache, step, stream);
    if (cache.head_stride <= 128) return launch_tiles<Element, 128>(traits, task, cache, step, stream);
    return launch_tiles<Element, 256>(traits, task, cache, step, stream);
  });
}

}  // namespace tritllm::cuda
