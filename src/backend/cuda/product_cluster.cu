// Owns the product of packed matrices with a few tokens on Hopper: warpgroup instructions with the weights expanded in registers,
// the inputs split over the blocks of a cluster.
//
// A block has a tile of up to 32 tokens, and 16 warps that share its tiles of rows among them: 16 tiles and a consecutive part of
// the inputs, or fewer tiles and as many more parts, one for each one or two of its warpgroups. Blocks of a cluster have the same
// tiles and further parts; they add up their sums through shared memory, in the order of the inputs, each a part of the outputs.
// Weights are asked for anew as soon as a block is used (weight_stream.cuh); activations come by bulk copies, 512 inputs a stage.
#include <algorithm>
#include <type_traits>

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/operands.cuh"
#include "backend/cuda/warpgroup.cuh"
#include "backend/cuda/weight_stream.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kWarps = 16, kThreads = kWarps * kLanes, kGroupWarps = 4;
constexpr int kUnitBlocks = 4, kUnitChunks = kUnitBlocks * kBlockColumns / kChunkColumns;
constexpr int kMostParts = 8;  // of the inputs, in all blocks of a cluster

// Tiles of a block whose warpgroups have `parts` parts of the inputs.
constexpr int tiles_of_block(int parts) { return kWarps / parts; }

struct ClusterTask {
  ProductTask product;
  Operands operands;
  Runs units;  // of 512 inputs, over the parts of all blocks of a cluster
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

template <int kDepth, int kTokens, int kParts>
__global__ void __launch_bounds__(kThreads, 1) multiply_cluster(const __grid_constant__ ClusterTask task) {
#ifdef TRIT_WARPGROUP_MMA
  // Sums lie token by token; the rows' padding keeps a warp's writes in different banks.
  constexpr int kTiles = tiles_of_block(kParts), kRows = kTiles * kTileRows, kSumStride = kRows + 4;
  // Each part has stages of its own.
  constexpr int kStages = stages_of(kDepth, kTokens) / kParts, kAllStages = kStages * kParts, kStageBytes = stage_bytes(kTokens);
  constexpr int kSlots = weight_slots(kDepth);
  constexpr size_t kUnitBytes = kUnitBlocks * block_bytes(kDepth) + scale_words(kDepth) * kLanes * 4;
  extern __shared__ uint8_t memory[];
  __shared__ float units[kTiles];  // what the sums of a tile lack
  const ProductTask& product = task.product;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  // Neighbouring warpgroups have different parts, then other tiles.
  const int part = warp / kGroupWarps % kParts, tile_of_block = warp / kGroupWarps / kParts * kGroupWarps + warp % kGroupWarps;
  const bool leads = thread == part * kGroupWarps * kLanes;  // asks for the part's activations
  const int splits = static_cast<int>(gridDim.x), split = static_cast<int>(blockIdx.x), place = split * kParts + part;
  const int begin = task.units.begin(place), end = task.units.begin(place + 1);
  const int first_tile = static_cast<int>(blockIdx.z) * kTiles, tile = min(first_tile + tile_of_block, product.tiles - 1);
  uint8_t* const aligned = memory + (1024u - shared_address(memory) % 1024u) % 1024u;
  const uint32_t all_stages = shared_address(aligned), barriers = all_stages + kAllStages * kStageBytes,
                 rings = barriers + kAllStages * 16;
  const uint32_t stages = all_stages + part * kStages * kStageBytes, full = barriers + part * kStages * 16,
                 empty = full + kStages * 8;
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
  if (lane == 0 && part == 0) units[tile_of_block] = steps.unit;
  if (leads) {
    for (int i = 0; i < kStages; ++i) init_barrier(full + i * 8, 1), init_barrier(empty + i * 8, kTiles);
    publish_barriers();
  }
  __syncthreads();
  wait_for_previous_kernel();
  const auto fill = [&](int unit) {
    const int stage = (unit - begin) % kStages;
    bulk_copy(stages + stage * kStageBytes, operand_tile + static_cast<int64_t>(unit) * kStageBytes,
              static_cast<uint32_t>(blocks_in(unit) * (kStageBytes / kUnitBlocks)), full + stage * 8);
  };
  if (leads) {
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
    if (leads && unit + kStages < end) {
      wait_for_phase(empty + stage * 8, phase);
      fill(unit + kStages);
    }
    if (++stage == kStages) stage = 0, phase ^= 1u;
  }

  __syncthreads();  // nobody reads activations any more
  constexpr int kSumsOfPart = kTokens * kSumStride;
  float* const all_sums = reinterpret_cast<float*>(aligned);
  float* const own_sums = all_sums + part * kSumsOfPart;
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) {
    const int token = i / 4 * 8 + 2 * t + i % 2, row = tile_of_block * kTileRows + g + i % 4 / 2 * 8;
    own_sums[token * kSumStride + row] = sums[i];
  }
  const auto cluster = static_cast<uint32_t>(splits);
  cluster_barrier(cluster);
  // Blocks of the cluster share the outputs among them.
  for (int i = split * kThreads + thread; i < tokens * kRows; i += splits * kThreads) {
    const int token = i / kRows, row = i % kRows;
    if (first_tile + row / kTileRows >= product.tiles) continue;
    float parts[kMostParts], sum = 0.0f;
#pragma unroll
    for (int p = 0; p < kMostParts; ++p) {
      const float* const from = all_sums + p % kParts * kSumsOfPart + token * kSumStride + row;
      if (p < splits * kParts) parts[p] = *of_member(from, static_cast<uint32_t>(p / kParts), cluster);
    }
#pragma unroll
    for (int p = 0; p < kMostParts; ++p) {
      if (p < splits * kParts) sum += parts[p];
    }
    finish(product, first_tile + row / kTileRows, row % kTileRows, first_token + token,
           sum * (__ldcg(task.operands.factors + first_token + token) * units[row / kTileRows]));
  }
  if (splits > 1) cluster_barrier(cluster);  // nobody leaves while others read its memory
#endif
}

// How a product is divided: parts of the inputs in a block, and blocks of a cluster.
struct Division {
  int parts, splits, cost;
};

template <int kDepth, int kTokens, int kParts>
Status consider(const ProductTask& product, const Operands& operands, Division& best) {
  constexpr int kTiles = tiles_of_block(kParts);
  const int units = (product.blocks + kUnitBlocks - 1) / kUnitBlocks;
  const int clusters = (product.tiles + kTiles - 1) / kTiles * operands.tile_count();
  for (int splits = 1; splits <= std::min(kMostParts, units) / kParts; ++splits) {
    int fit = 0;
    const Status status = clusters_that_fit(multiply_cluster<kDepth, kTokens, kParts>, static_cast<unsigned>(splits), kThreads,
                                            shared_bytes<kDepth>(kTokens), fit);
    if (status != cudaSuccess) return status;
    if (fit == 0) continue;
    const int parts = splits * kParts, waves = (clusters + fit - 1) / fit;
    // The beginning and the end of a block take as long as a unit. Among equals the one with fewer parts reads fewer sums.
    const int cost = 16 * waves * ((units + parts - 1) / parts + 1) + parts + kParts;
    if (cost < best.cost) best = {kParts, splits, cost};
  }
  return cudaSuccess;
}

template <int kDepth, int kTokens, int kParts>
Status launch_division(const DeviceTraits& traits, const ProductTask& product, const Operands& operands, int splits,
                       Stream stream) {
  constexpr int kTiles = tiles_of_block(kParts);
  const int units = (product.blocks + kUnitBlocks - 1) / kUnitBlocks, row_groups = (product.tiles + kTiles - 1) / kTiles;
  // Tiles of tokens follow each other, so that a matrix is read from memory once.
  const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(operands.tile_count()), static_cast<unsigned>(row_groups));
  return launch_clusters(multiply_cluster<kDepth, kTokens, kParts>, traits, grid.x, grid, kThreads, shared_bytes<kDepth>(kTokens),
                         stream, ClusterTask{product, operands, Runs(units, splits * kParts)});
}

template <int kDepth, int kTokens>
Status launch_cluster(const DeviceTraits& traits, const ProductTask& product, const Operands& operands, Stream stream) {
  Division best{1, 1, 1 << 30};
  if (const Status status = consider<kDepth, kTokens, 1>(product, operands, best); status != cudaSuccess) return status;
  if (const Status status = consider<kDepth, kTokens, 2>(product, operands, best); status != cudaSuccess) return status;
  if (const Status status = consider<kDepth, kTokens, 4>(product, operands, best); status != cudaSuccess) return status;
  switch (best.parts) {
    case 1: return launch_division<kDepth, kTokens, 1>(traits, product, operands, best.splits, stream);
    case 2: return launch_division<kDepth, kTokens, 2>(traits, product, operands, best.splits, stream);
    default: return launch_division<kDepth, kTokens, 4>(traits, product, operands, best.splits, stream);
  }
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
