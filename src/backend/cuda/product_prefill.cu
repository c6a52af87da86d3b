// Owns the product of packed matrices with many tokens on Hopper: warpgroup instructions with the weights in registers, expanded
// there, and the activations in shared memory.
//
// A block has four warpgroups of 64 rows each, so 16 tiles, and one tile of tokens. While one warpgroup expands the next 128 inputs
// of its weights, the others keep the tensor cores busy. Activations come block by block (128 inputs) through a ring of bulk
// copies; weights are asked for one block ahead.
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/operands.cuh"
#include "backend/cuda/warpgroup.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kWarps = 16, kThreads = kWarps * kLanes;
constexpr int kStageChunks = kBlockColumns / kChunkColumns;

struct PrefillTask {
  ProductTask product;
  Operands operands;
};

constexpr int stage_bytes(int tile_tokens) { return kStageChunks * tile_tokens * kChunkBytes; }
constexpr int stages_of(int tile_tokens) { return tile_tokens == 128 ? 5 : 8; }
// Stages begin at multiples of 1,024 bytes, which the swizzle asks for.
constexpr int shared_bytes(int tile_tokens) { return stages_of(tile_tokens) * (stage_bytes(tile_tokens) + 16) + 1024; }

template <int kDepth, int kTileTokens>
__global__ void __launch_bounds__(kThreads, 1) multiply_prefill(const __grid_constant__ PrefillTask task) {
#ifdef TRIT_WARPGROUP_MMA
  constexpr int kStages = stages_of(kTileTokens), kStageBytes = stage_bytes(kTileTokens);
  constexpr int kBlockWords = block_words(kDepth), kItemBlocks = item_blocks(kDepth);
  // A stage is filled again this many blocks after its use, so that the thread that does it hardly ever waits.
  constexpr int kLag = 2;
  extern __shared__ uint8_t memory[];
  const ProductTask& product = task.product;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  const int tile = static_cast<int>(blockIdx.y) * kWarps + warp;
  const bool working = tile < product.tiles;
  const uint32_t stages = (shared_address(memory) + 1023u) & ~1023u;
  const uint32_t full = stages + kStages * kStageBytes, empty = full + kStages * 8;
  allow_next_kernel();

  const uint8_t* weights = tile_address(product, working ? tile : 0);
  const auto item_blocks_left = [&](int item) { return min(kItemBlocks, product.blocks - item * kItemBlocks); };
  uint32_t words[kBlockWords];
  load_run<kBlockWords>(words, weights, lane);
  uint32_t scales[kScaleWords] = {};
  const auto load_scales = [&](int item) {
    load_scale_words(scales,
                     weights + static_cast<size_t>(item) * item_bytes(kDepth) +
                         static_cast<size_t>(item_blocks_left(item)) * block_bytes(kDepth),
                     lane);
  };
  HalfSteps steps;
  if constexpr (kDepth > 0) {
    load_scales(0);
    steps.load(product.parts[part_of_tile(product, working ? tile : 0)].steps, lane);
  }
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) init_barrier(full + i * 8, 1), init_barrier(empty + i * 8, kWarps);
    publish_barriers();
  }
  __syncthreads();
  wait_for_previous_kernel();
  const uint8_t* operands = task.operands.tiles + static_cast<int64_t>(blockIdx.x) * product.blocks * kStageBytes;
  const auto fill = [&](int block) {
    const int stage = block % kStages;
    bulk_copy(stages + stage * kStageBytes, operands + static_cast<int64_t>(block) * kStageBytes, kStageBytes, full + stage * 8);
  };
  if (thread == 0) {
    for (int block = 0; block < min(kStages, product.blocks); ++block) fill(block);
  }

  float sums[kTileTokens / 2];
#pragma unroll
  for (int i = 0; i < kTileTokens / 2; ++i) sums[i] = 0.0f;
#pragma unroll 1
  for (int block = 0; block < product.blocks; ++block) {
    uint32_t rows[16], rows8[16];
    uint32_t codes = 0;
    if constexpr (kDepth > 0) {
      const int bit = 4 * kScaleCodeBits * (block % kItemBlocks);
      const uint32_t low = bit < 32 ? scales[0] : scales[1], high = bit < 32 ? scales[1] : scales[2];
      codes = __funnelshift_r(low, high, static_cast<uint32_t>(bit));
    }
    decode_block<kDepth>(words, codes, steps.pair, rows, rows8);
    if (block + 1 < product.blocks) {
      const int item = (block + 1) / kItemBlocks, in_item = (block + 1) % kItemBlocks;
      load_run<kBlockWords>(
          words, weights + static_cast<size_t>(item) * item_bytes(kDepth) + static_cast<size_t>(in_item) * block_bytes(kDepth),
          lane);
      if (kDepth > 0 && in_item == 0) load_scales(item);
    }
    const int stage = block % kStages;
    wait_for_phase(full + stage * 8, static_cast<uint32_t>(block / kStages) & 1u);
    const uint64_t operand_stage = operand_descriptor(stages + stage * kStageBytes);
    warpgroup_fence();
#pragma unroll
    for (int step = 0; step < 8; ++step) {
      const uint32_t at = step / 4 * kTileTokens * kChunkBytes + step % 4 * 32;
      warpgroup_mma(sums, rows[2 * step], rows8[2 * step], rows[2 * step + 1], rows8[2 * step + 1], further(operand_stage, at),
                    true);
    }
    warpgroup_commit();
    if (thread == 0 && block >= kLag && block - kLag + kStages < product.blocks) {
      const int used = block - kLag;
      wait_for_phase(empty + used % kStages * 8, static_cast<uint32_t>(used / kStages) & 1u);
      fill(used + kStages);
    }
    warpgroup_wait();
    if (lane == 0) arrive(empty + stage * 8);
  }

  if (!working) return;
  const TaskPart& part = product.parts[part_of_tile(product, tile)];
  const int g = lane / 4, t = lane % 4, row = (tile - part.first_tile) * kTileRows + g;
  const int first_token = static_cast<int>(blockIdx.x) * kTileTokens;
  const float unit = part.unit * steps.unit;
#pragma unroll
  for (int upper = 0; upper < 2; ++upper) {
    if (row + 8 * upper >= part.rows) continue;
    const float bias = part.bias != nullptr ? __ldg(part.bias + row + 8 * upper) : 0.0f;
    float* out = part.out + row + 8 * upper;
#pragma unroll
    for (int n = 0; n < kTileTokens / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int token = first_token + n * 8 + 2 * t + i;
        if (token < task.operands.tokens) {
          float* to = out + token * part.out_stride;
          const float value = sums[4 * n + 2 * upper + i] * (__ldcg(task.operands.factors + token) * unit) + bias;
          *to = part.adds ? *to + value : value;
        }
      }
    }
  }
#endif
}

template <int kDepth>
Status launch_prefill(const DeviceTraits& traits, const PrefillTask& task, Stream stream) {
  const dim3 grid(static_cast<unsigned>(task.operands.tile_count()),
                  static_cast<unsigned>((task.product.tiles + kWarps - 1) / kWarps));
  const int bytes = shared_bytes(task.operands.tile_tokens);
  return task.operands.tile_tokens == 64
             ? launch_kernel(multiply_prefill<kDepth, 64>, traits, grid, kThreads, bytes, stream, task)
             : launch_kernel(multiply_prefill<kDepth, 128>, traits, grid, kThreads, bytes, stream, task);
}

}  // namespace

Status multiply_many_tokens(const DeviceTraits& traits, int depth, const ProductTask& product, const Operands& operands,
                            Stream stream) {
  const PrefillTask task{product, operands};
  switch (depth) {
    case 0: return launch_prefill<0>(traits, task, stream);
    case 1: return launch_prefill<1>(traits, task, stream);
    case 2: return launch_prefill<2>(traits, task, stream);
    case 3: return launch_prefill<3>(traits, task, stream);
    default: return launch_prefill<4>(traits, task, stream);
  }
}

}  // namespace tritllm::cuda
