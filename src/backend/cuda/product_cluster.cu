// Owns the product of packed matrices with a few tokens on Hopper: warpgroup instructions with the weights expanded in registers,
// the inputs split over the blocks of a cluster.
//
// A block has 16 tiles, one a warp, a tile of up to 32 tokens, and a consecutive part of the inputs. Blocks of a cluster have the
// same tiles; they add up their sums through shared memory, in the order of the inputs, each a part of the outputs. Weights are
// asked for anew as soon as a block is used (weight_stream.cuh); activations come by bulk copies, 512 inputs a stage.
#include <algorithm>
#include <type_traits>

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/operands.cuh"
#include "backend/cuda/warpgroup.cuh"
#include "backend/cuda/weight_stream.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kWarps = 16, kThreads = kWarps * kLanes, kRows = kWarps * kTileRows;
constexpr int kUnitBlocks = 4, kUnitChunks = kUnitBlocks * kBlockColumns / kChunkColumns;
constexpr int kMostSplits = 8;

struct ClusterTask {
  ProductTask product;
  Operands operands;
  Runs units;  // of 512 inputs, over the blocks of a cluster
};

constexpr int stage_bytes(int tokens) { return kUnitChunks * tokens * kChunkBytes; }
constexpr int stages_of(int depth, int tokens) { return tokens < 32 ? 8 : depth == 4 ? 4 : 6; }
// At depth 4 the ring is faster by a tenth, at other depths registers are, or as fast.
constexpr int weight_slots(int depth) { return depth == 4 ? 2 : item_blocks(depth); }
template <int kDepth>
using Weights =
    std::conditional_t<kDepth == 4, WeightRing<kDepth, weight_slots(kDepth)>, WeightRegisters<kDepth, weight_slots(kDepth)>>;
// Stages begin at multiples of 1,024 bytes, which the swizzle asks for.
template <int kDepth>
constexpr int shared_bytes(int tokens) {
  return stages_of(kDepth, tokens) * (stage_bytes(tokens) + 16) + kWarps * Weights<kDepth>::kBytes + 1024;
}

template <int kDepth, int kTokens>
__global__ void __launch_bounds__(kThreads, 1) multiply_cluster(const __grid_constant__ ClusterTask task) {
#ifdef TRIT_WARPGROUP_MMA
  // Sums lie token by token; the rows' padding keeps a warp's writes in different banks.
  constexpr int kSumStride = kRows + 4;
  constexpr int kStages = stages_of(kDepth, kTokens), kStageBytes = stage_bytes(kTokens);
  constexpr int kSlots = weight_slots(kDepth);
  constexpr size_t kUnitBytes = kUnitBlocks * block_bytes(kDepth) + scale_words(kDepth) * kLanes * 4;
  extern __shared__ uint8_t memory[];
  __shared__ float units[kWarps];  // what the sums of a tile lack
  const ProductTask& product = task.product;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  const int splits = static_cast<int>(gridDim.x), split = static_cast<int>(blockIdx.x);
  const int begin = task.units.begin(split), end = task.units.begin(split + 1);
  const int first_tile = static_cast<int>(blockIdx.z) * kWarps, tile = min(first_tile + warp, product.tiles - 1);
  uint8_t* const aligned = memory + (1024u - shared_address(memory) % 1024u) % 1024u;
  const uint32_t stages = shared_address(aligned), full = stages + kStages * kStageBytes, empty = full + kStages * 8,
                 rings = empty + kStages * 8;
  const int first_token = static_cast<int>(blockIdx.y) * kTokens, tokens = min(kTokens, task.operands.tokens - first_token);
  const uint8_t* const operand_tile =
      task.operands.tiles + static_cast<int64_t>(blockIdx.y) * task.operands.chunks * kTokens * kChunkBytes;
  allow_next_kernel();

  const uint8_t* const tile_begin = tile_address(product, tile);
  const auto unit_address = [&](int unit) { return tile_begin + static_cast<size_t>(unit) * kUnitBytes; };
  const auto blocks_in = [&](int unit) { return unit < end ? min(kUnitBlocks, product.blocks - unit * kUnitBlocks) : 0; };
  Weights<kDepth> weights;
  weights.lane = lane;
  if constexpr (Weights<kDepth>::kBytes > 0) weights.base = rings + static_cast<uint32_t>(warp * Weights<kDepth>::kBytes);
  weights.ask_for_scales(unit_address(begin), blocks_in(begin));
#pragma unroll
  for (int block = 0; block < kSlots; ++block) {
    weights.ask_for_block(unit_address(begin), block, blocks_in(begin));
    weights.commit();
  }
  HalfSteps steps;
  if constexpr (kDepth > 0) steps.load(product.parts[part_of_tile(product, tile)].steps, lane);
  if (lane == 0) units[warp] = steps.unit;
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) init_barrier(full + i * 8, 1), init_barrier(empty + i * 8, kWarps);
    publish_barriers();
  }
  __syncthreads();
  wait_for_previous_kernel();
  const auto fill = [&](int unit) {
    const int stage = (unit - begin) % kStages;
    bulk_copy(stages + stage * kStageBytes, operand_tile + static_cast<int64_t>(unit) * kStageBytes,
              static_cast<uint32_t>(blocks_in(unit) * (kStageBytes / kUnitBlocks)), full + stage * 8);
  };
  if (thread == 0) {
    for (int unit = begin; unit < min(begin + kStages, end); ++unit) fill(unit);
  }

  float sums[kTokens / 2] = {};
  int stage = 0;
  uint32_t phase = 0;
#pragma unroll 1
  for (int unit = begin; unit < end; ++unit) {
    const int count = blocks_in(unit);
    const uint64_t operands = operand_descriptor(__shfl_sync(0xffffffffu, stages + stage * kStageBytes, 0));
    const int next_count = blocks_in(unit + 1);
    uint32_t codes[kScaleWords] = {};
#pragma unroll
    for (int block = 0; block < kUnitBlocks; ++block) {
      if (block >= count) break;  // the same for all warps
      weights.wait();
      if (block == 0) {
        // The scale codes came with the unit's first block.
        weights.read_scales(codes);
        weights.ask_for_scales(unit_address(unit + 1), next_count);
      }
      uint32_t words[Weights<kDepth>::kBlockWords], rows[16], rows8[16];
      weights.read_block(words, block);
      decode_block<kDepth>(words, kDepth > 0 ? block_scale_codes(codes, block) : 0, steps.pair, rows, rows8);
      if (block + kSlots < kUnitBlocks) {
        weights.ask_for_block(unit_address(unit), block + kSlots, count);
      } else {
        weights.ask_for_block(unit_address(unit + 1), block + kSlots - kUnitBlocks, next_count);
      }
      weights.commit();
      if (block == 0) wait_for_phase(full + stage * 8, phase);
      warpgroup_fence();
#pragma unroll
      for (int step = 0; step < 8; ++step) {
        const uint32_t at = (2 * block + step / 4) * kTokens * kChunkBytes + step % 4 * 32;
        warpgroup_mma(sums, rows[2 * step], rows8[2 * step], rows[2 * step + 1], rows8[2 * step + 1], further(operands, at), true);
      }
      warpgroup_commit();
      warpgroup_wait();
    }
    if (lane == 0) arrive(empty + stage * 8);
    if (thread == 0 && unit + kStages < end) {
      wait_for_phase(empty + stage * 8, phase);
      fill(unit + kStages);
    }
    if (++stage == kStages) stage = 0, phase ^= 1u;
  }

  __syncthreads();  // nobody reads activations any more
  float* const own_sums = reinterpret_cast<float*>(aligned);
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) {
    const int token = i / 4 * 8 + 2 * t + i % 2, row = warp * kTileRows + g + i % 4 / 2 * 8;
    own_sums[token * kSumStride + row] = sums[i];
  }
  const auto cluster = static_cast<uint32_t>(splits);
  cluster_barrier(cluster);
  // Blocks of the cluster share the outputs among them.
  for (int i = split * kThreads + thread; i < tokens * kRows; i += splits * kThreads) {
    const int token = i / kRows, row = i % kRows;
    if (first_tile + row / kTileRows >= product.tiles) continue;
    float parts[kMostSplits], sum = 0.0f;
#pragma unroll
    for (int s = 0; s < kMostSplits; ++s) {
      if (s < splits) parts[s] = *of_member(own_sums + token * kSumStride + row, static_cast<uint32_t>(s), cluster);
    }
#pragma unroll
    for (int s = 0; s < kMostSplits; ++s) {
      if (s < splits) sum += parts[s];
    }
    finish(product, first_tile + row / kTileRows, row % kTileRows, first_token + token,
           sum * (__ldcg(task.operands.factors + first_token + token) * units[row / kTileRows]));
  }
  if (splits > 1) cluster_barrier(cluster);  // nobody leaves while others read its memory
#endif
}

template <int kDepth, int kTokens>
Status launch_cluster(const DeviceTraits& traits, const ProductTask& product, const Operands& operands, Stream stream) {
  const auto kernel = multiply_cluster<kDepth, kTokens>;
  const int units = (product.blocks + kUnitBlocks - 1) / kUnitBlocks, row_groups = (product.tiles + kWarps - 1) / kWarps;
  const int clusters = row_groups * operands.tile_count();
  // As many blocks share a tile's inputs as makes the longest way short.
  int splits = 1, least = 1 << 30;
  for (int s = 1; s <= std::min(kMostSplits, units); ++s) {
    int fit = 0;
    const Status status = clusters_that_fit(kernel, static_cast<unsigned>(s), kThreads, shared_bytes<kDepth>(kTokens), fit);
    if (status != cudaSuccess) return status;
    if (fit == 0) continue;
    // The beginning and the end of a block take as long as a unit.
    const int cost = 8 * ((clusters + fit - 1) / fit) * ((units + s - 1) / s + 1) + s;
    if (cost < least) splits = s, least = cost;
  }
  // Tiles of tokens follow each other, so that a matrix is read from memory once.
  const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(operands.tile_count()), static_cast<unsigned>(row_groups));
  return launch_clusters(kernel, traits, grid.x, grid, kThreads, shared_bytes<kDepth>(kTokens), stream,
                         ClusterTask{product, operands, Runs(units, splits)});
}

template <int kDepth>
Status launch_depth(const DeviceTraits& traits, const ProductTask& product, const Operands& operands, Stream stream) {
  switch (operands.tile_tokens) {
    case 8: return launch_cluster<kDepth, 8>(traits, product, operands, stream);
    case 16: return launch_cluster<kDepth, 16>(traits, product, operands, stream);
    default: return launch_cluster<kDepth, 32>(traits, product, operands, stream);
  }
}

}  // namespace

Status multiply_in_clusters(const DeviceTraits& traits, int depth, const ProductTask& task, const Operands& operands,
                            Stream stream) {
  switch (depth) {
    case 0: return launch_depth<0>(traits, task, operands, stream);
    case 1: return launch_depth<1>(traits, task, operands, stream);
    case 2: return launch_depth<2>(traits, task, operands, stream);
    case 3: return launch_depth<3>(traits, task, operands, stream);
    default: return launch_depth<4>(traits, task, operands, stream);
  }
}

}  // namespace tritllm::cuda
