// Owns the heads' way into the key/value cache and attention over it, one row of queries at a time: each row reads the keys and
// values of its own sequence, so rows of one batch may belong to any. Rows of a prompt are left to attention_tiles.cu.
//
// A block of four warps takes one row, one key/value head with some of the query heads that share it, and a part of the row's
// positions, each warp for itself: on the tensor cores (attention_mma.cuh), or by plain arithmetic where the cache has float32.
// Where the positions of a row are split over several blocks, blocks of a cluster (Hopper) merge their parts through shared memory,
// and the last block to come merges those of the clusters, both in order. Short rows use one cluster only. Where some rows are long
// the clusters are small, so that as many as possible run at once.
//
// A row whose sequence has no other row in the batch can have its own key and value normed, rotated and stored by the same kernel.
#include <algorithm>
#include <bit>
#include <type_traits>

#include "backend/cuda/attention_floats.cuh"
#include "backend/cuda/attention_mma.cuh"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/layout.h"

namespace tritllm::cuda {
namespace {

constexpr int kThreads = kAttentionThreads, kWarps = kThreads / kLanes;
constexpr int kMostSplits = 64;
constexpr int kMostMembers = 8, kMembersOfLongRows = 2;  // of a cluster
constexpr int kPagesAhead = 2;
constexpr int kWarpPositions = 16;  // that a warp takes at once on the tensor cores

// The heads that a row brings with it, where the kernel that attends is to store them.
struct OwnHeads {
  HeadTask heads;
  bool stores;
};

constexpr int kHeadThreads = 128, kHeadWarps = kHeadThreads / kLanes;

// A warp norms and rotates one head of queries or keys, into shared memory. Returns after all lanes have written.
TRIT_DEVICE void prepare_head(const float* from, const float* gain, float epsilon, int width, const float* cosines,
                              const float* sines, int pairs, float* to, int lane) {
  float factor = 1.0f;
  if (gain != nullptr) {
    float squares = 0.0f;
    for (int i = lane; i < width; i += kLanes) squares += from[i] * from[i];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, distance);
    factor = rsqrtf(squares / static_cast<float>(width) + epsilon);
  }
  const auto value = [&](int i) { return gain != nullptr ? from[i] * factor * __ldg(gain + i) : from[i]; };
  for (int i = lane; i < pairs; i += kLanes) {
    const float c = cosines[i], s = sines[i], a = value(i), b = value(i + pairs);
    to[i] = a * c - b * s;
    to[i + pairs] = b * c + a * s;
  }
  for (int i = 2 * pairs + lane; i < width; i += kLanes) to[i] = value(i);
  __syncwarp();
}

// One block a row; its warps take the heads of queries, keys and values in turn.
__global__ void __launch_bounds__(kHeadThreads) store_heads_kernel(HeadTask task, CacheView cache, int layer, StepView step) {
  __shared__ float rooms[kHeadWarps][kLargestHead];
  allow_next_kernel();
  wait_for_previous_kernel();
  const int row = static_cast<int>(blockIdx.x), lane = static_cast<int>(threadIdx.x) % kLanes,
            warp = static_cast<int>(threadIdx.x) / kLanes;
  const uint32_t sequence = step.places[2 * row], position = step.places[2 * row + 1];
  const uint32_t page = step.pages[static_cast<int64_t>(sequence) * step.pages_of_sequence + position / kPagePositions];
  const int width = cache.head_width, query_heads = task.queries.width / width;
  float* head_values = rooms[warp];
  for (int head = static_cast<int>(blockIdx.y) * kHeadWarps + warp; head < query_heads + 2 * cache.heads;
       head += kHeadWarps * static_cast<int>(gridDim.y)) {
    const bool query = head < query_heads, key = !query && head < query_heads + cache.heads;
    const int own = query ? head : (head - query_heads) % cache.heads;
    const RowsView& rows = query ? task.queries : key ? task.keys : task.values;
    float* from = rows.data + row * rows.stride + own * width;
    if (!query && !key) {
      store_head(
          cache, part_of_page(cache, layer, page, own, 1), static_cast<int>(position % kPagePositions),
          [&](int i) { return from[i]; }, lane);
      continue;
    }
    const int64_t angle = static_cast<int64_t>(position) * task.pairs;
    prepare_head(from, query ? task.query_gain : task.key_gain, query ? task.query_epsilon : task.key_epsilon, width,
                 task.cosines + angle, task.sines + angle, task.pairs, head_values, lane);
    if (query) {
      for (int i = lane; i < width; i += kLanes) from[i] = head_values[i];
    } else {
      store_head(
          cache, part_of_page(cache, layer, page, own, 0), static_cast<int>(position % kPagePositions),
          [&](int i) { return head_values[i]; }, lane);
    }
    __syncwarp();
  }
}

// kHeads: query heads of a block. kChunks: parts of 64 elements of a head.
template <typename Element, int kHeads, int kChunks>
__global__ void __launch_bounds__(kThreads)
    attend_kernel(const __grid_constant__ AttentionTask task, const __grid_constant__ CacheView cache,
                  const __grid_constant__ StepView step, const __grid_constant__ OwnHeads own, bool tiled) {
  constexpr int kWidth = kChunks * kTeam * kChunk;
  __shared__ float largest_of[kWarps][kHeads], total_of[kWarps][kHeads];
  extern __shared__ __align__(16) float sums_memory[];
  const auto sums_of = reinterpret_cast<float(*)[kHeads][kWidth]>(sums_memory);
  __shared__ __align__(16) float own_heads[kHeads + 1][kWidth];  // queries, and the key of the row's own position
  __shared__ float angles[2][kWidth / 2];
  __shared__ float split_weights[kHeads][kMostSplits], merged_totals[kHeads];
  __shared__ bool last_to_come;
  allow_next_kernel();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  const int row = static_cast<int>(blockIdx.z), sharing = task.heads / cache.heads, groups = (sharing + kHeads - 1) / kHeads;
  const int key_head = static_cast<int>(blockIdx.y) / groups, group = static_cast<int>(blockIdx.y) % groups;
  const int first_head = key_head * sharing + group * kHeads, heads = min(kHeads, sharing - group * kHeads);
  if (tiled) {
    // A launch whose blocks all left without waiting would end before the one before it.
    wait_for_previous_kernel();
    if (has_neighbours(step, row, task.queries.count)) return;
  }

  // The step's inputs and the cache's earlier positions were written long ago.
  const uint32_t sequence = step.places[2 * row], position = step.places[2 * row + 1];
  const uint32_t begin = task.window != 0 && position >= task.window ? position - task.window + 1 : 0, start = begin & ~15u,
                 length = position + 1 - start;
  constexpr bool kTensorCores = !std::is_same_v<Element, float>;
  constexpr uint32_t kStep = kTensorCores ? kWarps * kWarpPositions : kFloatPositions, kShortSteps = 2;
  // Short rows stay within one cluster.
  const uint32_t cluster = cluster_size(), wanted = length <= cluster * kStep * kShortSteps ? cluster : gridDim.x;
  const uint32_t each = (length + wanted - 1) / wanted, per_split = (each + kStep - 1) / kStep * kStep;
  const uint32_t splits = (length + per_split - 1) / per_split;
  if (blockIdx.x >= splits) return;
  const uint32_t first = start + blockIdx.x * per_split, end = min(first + per_split, position + 1);
  const uint32_t* pages = step.pages + static_cast<int64_t>(sequence) * step.pages_of_sequence;
  const PartOfRow part{first, begin, end, pages, task.layer, key_head, heads};
  // The first keys and values come closer while the kernel before ends.
  if (const uint32_t page = first / kPagePositions + static_cast<uint32_t>(thread / 2);
      thread < 2 * kPagesAhead && page * kPagePositions < end) {
    const uint32_t from = max(first, page * kPagePositions), to = min(end, (page + 1) * kPagePositions);
    const auto* const elements =
        reinterpret_cast<const Element*>(part_of_page(cache, task.layer, __ldg(pages + page), key_head, thread % 2));
    bring_to_l2(elements + static_cast<int>(from % kPagePositions) * cache.head_stride,
                (to - from) * static_cast<uint32_t>(cache.head_stride) * static_cast<uint32_t>(sizeof(Element)));
  }
  if (own.stores) {
    for (int i = thread; i < 2 * own.heads.pairs; i += kThreads) {
      const int table = i >= own.heads.pairs ? 1 : 0, pair = i - table * own.heads.pairs;
      angles[table][pair] =
          __ldg((table == 0 ? own.heads.cosines : own.heads.sines) + static_cast<int64_t>(position) * own.heads.pairs + pair);
    }
    __syncthreads();
  }
  wait_for_previous_kernel();
  if (own.stores) {
    // The block whose positions end with the row's own one stores its key and value. Blocks of other query heads that share them
    // write the same bits.
    const int jobs = heads + (end == position + 1 ? 2 : 0), width = cache.head_width;
    for (int job = warp; job < jobs; job += kWarps) {
      if (job < heads) {
        prepare_head(task.queries.data + row * task.queries.stride + static_cast<int64_t>(first_head + job) * width,
                     own.heads.query_gain, own.heads.query_epsilon, width, angles[0], angles[1], own.heads.pairs, own_heads[job],
                     lane);
        continue;
      }
      const bool key = job == heads;
      const RowsView& rows = key ? own.heads.keys : own.heads.values;
      const float* from = rows.data + row * rows.stride + static_cast<int64_t>(key_head) * width;
      if (key) {
        prepare_head(from, own.heads.key_gain, own.heads.key_epsilon, width, angles[0], angles[1], own.heads.pairs,
                     own_heads[kHeads], lane);
        from = own_heads[kHeads];
      }
      store_head(
          cache, part_of_page(cache, task.layer, pages[position / kPagePositions], key_head, key ? 0 : 1),
          static_cast<int>(position % kPagePositions), [&](int i) { return from[i]; }, lane);
    }
    __syncthreads();
  }

  const float query_scale = task.softcap > 0.0f ? task.scale / task.softcap : task.scale * kLog2e;
  const auto query_of = [&](int head) -> const float* {
    return own.stores ? own_heads[head]
                      : task.queries.data + row * task.queries.stride + static_cast<int64_t>(first_head + head) * cache.head_width;
  };
  if constexpr (kTensorCores) {
    __shared__ QueryOperands<kWidth> operands;
    operands.fill(query_of, heads, cache.head_width, query_scale, thread, kThreads);
    __syncthreads();
    WarpSums<kWidth> sums;
    const auto positions_at = [&](uint32_t base) {
      return Positions{part.keys_of_page(cache, base), static_cast<int>(base % kPagePositions),
                       static_cast<int>(max(begin, base) - base), static_cast<int>(min(end - base, uint32_t{kWarpPositions}))};
    };
    // The next positions' elements are held beside the sums where registers suffice.
    constexpr bool kAhead = kWidth * sizeof(Element) <= 256;
    uint32_t base = first + static_cast<uint32_t>(warp * kWarpPositions);
    if (base < end) {
      Positions at = positions_at(base);
      LoadedPositions<Element, kWidth> loaded;
      const auto load = [&](const Positions& positions) {
        loaded.load_values(cache, positions, lane);
        loaded.load_keys(cache, positions, lane);
      };
      if constexpr (kAhead) load(at);
#pragma unroll 1
      for (;;) {
        if constexpr (!kAhead) load(at);
        base += kStep;
        const bool more = base < end;
        Positions next = at;
        if (kAhead && more) next = positions_at(base);
        float scores[4];
        sums.score(scores, loaded, operands, lane);
        if (kAhead && more) loaded.load_keys(cache, next, lane);
        sums.add(at, scores, loaded, task.softcap, lane);
        if (!more) break;
        if constexpr (kAhead) loaded.load_values(cache, next, lane);
        else next = positions_at(base);
        at = next;
      }
    }
    sums.store(sums_of[warp][0], largest_of[warp], total_of[warp], heads, lane);
  } else {
    attend_to_floats<kHeads, kChunks>(part, cache, query_of, query_scale, task.softcap, sums_of[warp][0], largest_of[warp],
                                      total_of[warp]);
  }
  __syncthreads();

  const auto out_row = [&](int h) {
    return task.out.data + row * task.out.stride + static_cast<int64_t>(first_head + h) * cache.head_width;
  };
  constexpr int kPartial = kHeads * (kWidth + 2);  // [head][element], then [head][largest, total]
  static_assert(kPartial % 4 == 0);
  // The warps' parts become the block's, in the place of the first warp's.
  for (int i = thread; i < heads * kWidth; i += kThreads) {
    const int h = i / kWidth, element = i % kWidth;
    float top = kLowest, sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, largest_of[w][h]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += sums_of[w][h][element] * exp2f(largest_of[w][h] - top);
    sums_of[0][h][element] = sum;
  }
  __syncthreads();
  if (thread < heads) {
    float top = kLowest, total = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, largest_of[w][thread]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += total_of[w][thread] * exp2f(largest_of[w][thread] - top);
    largest_of[0][thread] = top, total_of[0][thread] = total;
  }

  // The blocks of a cluster share the elements among them; each adds up its own of all blocks.
  const uint32_t clusters = (splits + cluster - 1) / cluster, number = blockIdx.x / cluster;
  const uint32_t members = min(cluster, splits - number * cluster), rank = blockIdx.x % cluster;
  const int64_t place = static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y, places = gridDim.x / cluster;
  float* partial = task.partial + (place * places + number) * kPartial;
  cluster_barrier(cluster);
  for (int i = 4 * (static_cast<int>(rank) * kThreads + thread); i < heads * kWidth;
       i += 4 * kThreads * static_cast<int>(members)) {
    const int h = i / kWidth, element = i % kWidth;
    float4 parts[kMostMembers];
    float tops[kMostMembers], totals_of[kMostMembers], top = kLowest, total = 0.0f, sum[4] = {};
#pragma unroll
    for (uint32_t m = 0; m < kMostMembers; ++m) {
      if (m >= members) break;
      parts[m] = *reinterpret_cast<const float4*>(of_member(&sums_of[0][h][element], m, cluster));
      tops[m] = *of_member(&largest_of[0][h], m, cluster), totals_of[m] = *of_member(&total_of[0][h], m, cluster);
      top = fmaxf(top, tops[m]);
    }
#pragma unroll
    for (uint32_t m = 0; m < kMostMembers; ++m) {
      if (m >= members) break;
      const float weight = exp2f(tops[m] - top);
      total = fmaf(totals_of[m], weight, total);
      sum[0] = fmaf(parts[m].x, weight, sum[0]), sum[1] = fmaf(parts[m].y, weight, sum[1]);
      sum[2] = fmaf(parts[m].z, weight, sum[2]), sum[3] = fmaf(parts[m].w, weight, sum[3]);
    }
    if (clusters == 1) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (element + j < cache.head_width) out_row(h)[element + j] = sum[j] / total;
      }
    } else {
      __stcg(reinterpret_cast<float4*>(partial + i), make_float4(sum[0], sum[1], sum[2], sum[3]));
      if (element == 0) __stcg(partial + kHeads * kWidth + 2 * h, top), __stcg(partial + kHeads * kWidth + 2 * h + 1, total);
    }
  }
  cluster_barrier(cluster);  // nobody leaves while others read its memory
  if (clusters == 1) return;
  __threadfence();
  __syncthreads();
  if (thread == 0) {
    last_to_come = atomicAdd(task.counters + place, 1u) == splits - 1;
    if (last_to_come) task.counters[place] = 0;
  }
  __syncthreads();
  if (!last_to_come) return;
  __threadfence();
  const float* parts = task.partial + place * places * kPartial;
  // A warp finds the weights of all parts of a head, then each thread adds up four elements.
  for (int h = warp; h < heads; h += kWarps) {
    float tops[kMostSplits / kLanes], part_totals[kMostSplits / kLanes], top = kLowest, total = 0.0f;
#pragma unroll
    for (int i = 0; i < kMostSplits / kLanes; ++i) {
      const uint32_t split = static_cast<uint32_t>(lane + i * kLanes);
      const float* numbers = parts + min(split, clusters - 1) * kPartial + kHeads * kWidth + 2 * h;
      tops[i] = split < clusters ? __ldcg(numbers) : kLowest;
      part_totals[i] = split < clusters ? __ldcg(numbers + 1) : 0.0f;
      top = fmaxf(top, tops[i]);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, distance));
#pragma unroll
    for (int i = 0; i < kMostSplits / kLanes; ++i) {
      const float weight = exp2f(tops[i] - top);
      split_weights[h][lane + i * kLanes] = weight;
      total = fmaf(part_totals[i], weight, total);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) total += __shfl_xor_sync(0xffffffffu, total, distance);
    if (lane == 0) merged_totals[h] = total;
  }
  __syncthreads();
  for (int i = 4 * thread; i < heads * kWidth; i += 4 * kThreads) {
    const int h = i / kWidth, element = i % kWidth;
    float sum[4] = {};
#pragma unroll 8
    for (uint32_t split = 0; split < clusters; ++split) {
      const float4 part = __ldcg(reinterpret_cast<const float4*>(parts + split * kPartial + i));
      const float weight = split_weights[h][split];
      sum[0] = fmaf(part.x, weight, sum[0]), sum[1] = fmaf(part.y, weight, sum[1]);
      sum[2] = fmaf(part.z, weight, sum[2]), sum[3] = fmaf(part.w, weight, sum[3]);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (element + j < cache.head_width) out_row(h)[element + j] = sum[j] / merged_totals[h];
    }
  }
}

// Blocks that a launch aims at where nothing better is known: one wave, as registers allow two on a multiprocessor.
int wanted_blocks(const DeviceTraits& traits) { return 2 * traits.multiprocessors; }
// That a launch has at most.
int most_blocks(const DeviceTraits& traits) { return 4 * traits.multiprocessors; }

template <typename Element, int kHeads, int kChunks>
Status launch_attend(const DeviceTraits& traits, const AttentionTask& task, const CacheView& cache, const StepView& step,
                     const OwnHeads& own, bool tiled, Stream stream) {
  const int sharing = task.heads / cache.heads, groups = (sharing + kHeads - 1) / kHeads;
  const int64_t pieces = int64_t{task.queries.count} * cache.heads * groups;
  constexpr int kSumBytes = kWarps * kHeads * kChunks * kTeam * kChunk * static_cast<int>(sizeof(float));
  const auto kernel = attend_kernel<Element, kHeads, kChunks>;
  // Few pieces are split; many are not, and then need neither counters nor room for partial sums.
  const unsigned most_members = !traits.clusters() ? 1 : step.long_rows ? kMembersOfLongRows : kMostMembers;
  int blocks = wanted_blocks(traits);
  if (traits.clusters() && step.long_rows) {
    int fit = 0;
    if (const Status status = clusters_that_fit(kernel, kMembersOfLongRows, kThreads, kSumBytes, fit); status != cudaSuccess)
      return status;
    blocks = std::clamp(fit * kMembersOfLongRows, 1, most_blocks(traits));
  }
  const auto splits = static_cast<unsigned>(std::clamp<int64_t>(blocks / pieces, 1, kMostSplits));
  const unsigned cluster = std::min(std::bit_floor(splits), most_members);
  const dim3 grid(splits / cluster * cluster, static_cast<unsigned>(cache.heads * groups),
                  static_cast<unsigned>(task.queries.count));
  return launch_clusters(kernel, traits, cluster, grid, kThreads, kSumBytes, stream, task, cache, step, own, tiled);
}

Status attend_rows(const DeviceTraits& traits, const AttentionTask& task, const CacheView& cache, const StepView& step,
                   const OwnHeads& own, bool tiled, Stream stream) {
  const int chunks = (cache.head_stride + kTeam * kChunk - 1) / (kTeam * kChunk);
  return with_element_type(cache, [&](auto element) {
    using Element = decltype(element);
    // By plain arithmetic, queries and sums of fewer heads fit into registers.
    constexpr bool kFloats = std::is_same_v<Element, float>;
    constexpr int kHeads = kFloats ? 4 : 8, kHeadsOfWideOnes = kFloats ? 2 : 8;
    if (chunks <= 1) return launch_attend<Element, kHeads, 1>(traits, task, cache, step, own, tiled, stream);
    if (chunks == 2) return launch_attend<Element, kHeads, 2>(traits, task, cache, step, own, tiled, stream);
    return launch_attend<Element, kHeadsOfWideOnes, 4>(traits, task, cache, step, own, tiled, stream);
  });
}

}  // namespace

size_t attention_partial_bytes(const DeviceTraits& traits) noexcept {
  constexpr size_t kLargestPartial = 8 * (256 + 2);
  return static_cast<size_t>(most_blocks(traits)) * kLargestPartial * sizeof(float);
}

Status store_heads(const DeviceTraits& traits, const HeadTask& task, const CacheView& cache, int layer, const StepView& step,
                   Stream stream) {
  const int heads = task.queries.width / cache.head_width + 2 * cache.heads;
  // A warp takes a head where there are few rows, and several of its row where that fills the multiprocessors as well.
  constexpr int kBlocksToFill = 2048 / kHeadThreads;
  const int spread = std::clamp(kBlocksToFill * traits.multiprocessors / std::max(1, task.queries.count), 1,
                                (heads + kHeadWarps - 1) / kHeadWarps);
  return launch_kernel(store_heads_kernel, traits, dim3(static_cast<unsigned>(task.queries.count), static_cast<unsigned>(spread)),
                       kHeadThreads, 0, stream, task, cache, layer, step);
}

Status attend(const DeviceTraits& traits, const AttentionTask& task, const CacheView& cache, const StepView& step, Stream stream) {
  constexpr OwnHeads kStored{};
  if (cache.element == CacheElement::kFloat32) return attend_rows(traits, task, cache, step, kStored, false, stream);
  const bool tiled = task.queries.count >= kFewestTiledRows;
  if (tiled) {
    if (const Status status = attend_tiles(traits, task, cache, step, stream); status != cudaSuccess || !step.lone_rows) {
      return status;
    }
  }
  return attend_rows(traits, task, cache, step, kStored, tiled, stream);
}

Status store_and_attend(const DeviceTraits& traits, const HeadTask& heads, const AttentionTask& task, const CacheView& cache,
                        const StepView& step, Stream stream) {
  const OwnHeads own{heads, true};
  return attend_rows(traits, task, cache, step, own, false, stream);
}

}  // namespace tritllm::cuda
