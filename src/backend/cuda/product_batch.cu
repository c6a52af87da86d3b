// Owns the product of packed matrices with up to 32 tokens at a time, on the tensor cores that every card since Ampere has.
//
// A unit of work is 16 tiles (one a warp) × 512 inputs × one tile of tokens. All units are dealt out to the blocks in equal
// consecutive runs, so that no multiprocessor waits for another; where a run ends within a row of units, both blocks leave partial
// sums, and the last one to come adds them up in the order of the inputs: the result does not depend on the timing. Weights stream
// through registers, each word being asked for anew as soon as it is used; activations through three stages of shared memory.
#include <algorithm>

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/operands.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kWarps = 16, kThreads = kWarps * kLanes, kStages = 3;
constexpr int kUnitBlocks = 4, kUnitChunks = kUnitBlocks * kBlockColumns / kChunkColumns;
constexpr int kColumnsOfMma = 8;

struct BatchTask {
  ProductTask product;
  Operands operands;
  float* partial_sums;  // [grid][2][kThreads][4 · kColumnTiles]
  uint32_t* counters;   // [token tiles][row groups]
  int units_of_row, row_groups;
  Runs runs;  // of units
};

// The block whose run holds a unit.
TRIT_DEVICE int block_of_unit(const Runs& runs, int unit) {
  const int in_longer = runs.longer * (runs.length + 1);
  return unit < in_longer ? unit / (runs.length + 1) : runs.longer + (unit - in_longer) / runs.length;
}

// A unit as a warp sees it: row of units (row group within tile of tokens), position in the row, and the warp's weights.
struct Unit {
  int row, position, tile;
  const uint8_t* weights;
  int blocks;  // 0: the warp has nothing to do in it

  template <int kDepth>
  TRIT_DEVICE void locate(const BatchTask& task, bool inside, int warp) {
    constexpr size_t kBytes = kUnitBlocks * block_bytes(kDepth) + scale_words(kDepth) * kLanes * 4;
    tile = row % task.row_groups * kWarps + warp;
    const bool working = inside && tile < task.product.tiles;
    blocks = working ? min(kUnitBlocks, task.product.blocks - position * kUnitBlocks) : 0;
    weights = working ? tile_address(task.product, tile) + static_cast<size_t>(position) * kBytes : nullptr;
  }
  template <int kDepth>
  TRIT_DEVICE Unit next(const BatchTask& task, bool inside, int warp) const {
    Unit unit{row, position + 1};
    if (unit.position == task.units_of_row) ++unit.row, unit.position = 0;
    unit.locate<kDepth>(task, inside, warp);
    return unit;
  }
};

// What a warp has asked for of its weights: whole blocks, each reloaded as soon as it is used, and a unit's scale codes.
template <int kDepth>
struct WeightStream {
  static constexpr int kHeld = item_blocks(kDepth), kBlockWords = block_words(kDepth);

  uint32_t words[kHeld][kBlockWords];
  uint32_t scales[kScaleWords];

  TRIT_DEVICE void load_block(uint32_t (&to)[kBlockWords], const Unit& unit, int block, int lane) {
    load_run<kBlockWords>(to, unit.weights + static_cast<size_t>(block) * block_bytes(kDepth), lane, block < unit.blocks);
  }
  TRIT_DEVICE void load_scales(const Unit& unit, int lane) {
    if constexpr (kDepth > 0) {
      load_scale_words(scales, unit.weights + static_cast<size_t>(unit.blocks) * block_bytes(kDepth), lane, unit.blocks > 0);
    }
  }
};

template <int kCount>
TRIT_DEVICE void clear(float (&sums)[kCount][4]) {
#pragma unroll
  for (int n = 0; n < kCount; ++n) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0.0f;
}

template <int kDepth, int kColumnTiles>
__global__ void __launch_bounds__(kThreads, 1) multiply_batch(const __grid_constant__ BatchTask task) {
  constexpr int kTileTokens = kColumnTiles * kColumnsOfMma, kStageBytes = kUnitChunks * kTileTokens * kChunkBytes;
  constexpr int kHeld = WeightStream<kDepth>::kHeld;
  extern __shared__ __align__(1024) uint8_t stages[];
  __shared__ bool last_to_come;
  const ProductTask& product = task.product;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  const int begin = task.runs.begin(static_cast<int>(blockIdx.x)), end = task.runs.begin(static_cast<int>(blockIdx.x) + 1);
  allow_next_kernel();

  Unit unit{begin / task.units_of_row, begin % task.units_of_row};
  unit.locate<kDepth>(task, begin < end, warp);
  WeightStream<kDepth> weights;
#pragma unroll
  for (int block = 0; block < kHeld; ++block) weights.load_block(weights.words[block], unit, block, lane);
  weights.load_scales(unit, lane);

  const int first_row = unit.row;
  const auto copy_operands = [&](int number, int stage) {
    if (number < end) {
      const int token_tile = number / task.units_of_row / task.row_groups, chunk = number % task.units_of_row * kUnitChunks;
      const int chunks = min(kUnitChunks, task.operands.chunks - chunk);
      const uint8_t* from =
          task.operands.tiles + (static_cast<int64_t>(token_tile) * task.operands.chunks + chunk) * kTileTokens * kChunkBytes;
      const uint32_t to = shared_address(stages + stage * kStageBytes);
      for (int at = thread * kPieceBytes; at < chunks * kTileTokens * kChunkBytes; at += kThreads * kPieceBytes) {
        copy_async(to + static_cast<uint32_t>(at), from + at);
      }
    }
    commit_copies();
  };
  wait_for_previous_kernel();
  copy_operands(begin, 0);
  copy_operands(begin + 1, 1);

  float sums[kColumnTiles][4] = {};
  HalfSteps steps;
  int part = -1;
  // ldmatrix: lanes 8i to 8i + 7 give the rows (tokens) of piece i.
  const uint32_t operand_row = static_cast<uint32_t>(lane % 8) * kChunkBytes;
  const int operand_piece = lane / 8, swizzle = lane % 8;

#pragma unroll 1
  for (int number = begin; number < end; ++number) {
    const int stage = (number - begin) % kStages;
    const Unit next = unit.next<kDepth>(task, number + 1 < end, warp);
    wait_for_copies<kStages - 2>();
    __syncthreads();
    copy_operands(number + 2, (number + 2 - begin) % kStages);
    if (kDepth > 0 && unit.blocks > 0) {
      const int now = part_of_tile(product, unit.tile);
      if (now != part) steps.load(product.parts[now].steps, lane), part = now;
    }
    uint32_t codes[kScaleWords];
#pragma unroll
    for (int i = 0; i < kScaleWords; ++i) codes[i] = weights.scales[i];
    const uint32_t operands = shared_address(stages + stage * kStageBytes) + operand_row;
#pragma unroll
    for (int block = 0; block < kUnitBlocks; ++block) {
      uint32_t rows[16], rows8[16];
      if (block < unit.blocks) {
        decode_block<kDepth>(weights.words[block % kHeld], kDepth > 0 ? block_scale_codes(codes, block) : 0, steps.pair, rows,
                             rows8);
      }
      // The next block that this place holds: of the next unit, or at depth 0 the next one.
      if constexpr (kHeld == kUnitBlocks) {
        weights.load_block(weights.words[block], next, block, lane);
      } else {
        weights.load_block(weights.words[block % kHeld], block + kHeld < kUnitBlocks ? unit : next, (block + kHeld) % kUnitBlocks,
                           lane);
      }
      if (block < unit.blocks) {
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {  // two steps
          const uint32_t chunk = operands + static_cast<uint32_t>((2 * block + pair / 2) * kTileTokens * kChunkBytes);
          const uint32_t piece = static_cast<uint32_t>((pair % 2 * 4 + operand_piece) ^ swizzle) * kPieceBytes;
#pragma unroll
          for (int n = 0; n < kColumnTiles; ++n) {
            uint32_t b[4];
            load_matrices(b, chunk + static_cast<uint32_t>(n * kColumnsOfMma * kChunkBytes) + piece);
            mma_16x8x16(sums[n], rows[4 * pair], rows8[4 * pair], rows[4 * pair + 1], rows8[4 * pair + 1], b[0], b[1]);
            mma_16x8x16(sums[n], rows[4 * pair + 2], rows8[4 * pair + 2], rows[4 * pair + 3], rows8[4 * pair + 3], b[2], b[3]);
          }
        }
      }
    }
    weights.load_scales(next, lane);

    const Unit done = unit;
    unit = next;
    if (number + 1 < end && next.row == done.row) continue;
    // The run leaves this row of units.
    const int row = done.row, row_begin = row * task.units_of_row, row_end = row_begin + task.units_of_row;
    bool complete = begin <= row_begin && row_end <= end;
    if (!complete) {
      constexpr int kPartial = 4 * kColumnTiles;
      const auto slot = [&](int block, int which) {
        return reinterpret_cast<float4*>(task.partial_sums +
                                         (static_cast<int64_t>(block * 2 + which) * kThreads + thread) * kPartial);
      };
      // The first row of a run goes to slot 0, the last one to slot 1.
      float4* mine = slot(static_cast<int>(blockIdx.x), first_row == row ? 0 : 1);
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) __stcg(mine + n, make_float4(sums[n][0], sums[n][1], sums[n][2], sums[n][3]));
      __threadfence();
      __syncthreads();
      const int first = block_of_unit(task.runs, row_begin), last = block_of_unit(task.runs, row_end - 1);
      if (thread == 0) {
        const auto before = static_cast<int>(atomicAdd(task.counters + row, 1u));
        last_to_come = before == last - first;
        if (last_to_come) task.counters[row] = 0;
      }
      __syncthreads();
      complete = last_to_come;
      if (complete) {
        __threadfence();
        clear(sums);
        // Four blocks' parts are asked for together: one wait for all of them.
        constexpr int kAtOnce = 4;
#pragma unroll 1
        for (int block = first; block <= last; block += kAtOnce) {
          float4 parts[kAtOnce][kColumnTiles];
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) {
            const float4* from = slot(min(block + i, last), task.runs.begin(min(block + i, last)) >= row_begin ? 0 : 1);
#pragma unroll
            for (int n = 0; n < kColumnTiles; ++n) parts[i][n] = __ldcg(from + n);
          }
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) {
            if (block + i > last) break;
#pragma unroll
            for (int n = 0; n < kColumnTiles; ++n) {
              sums[n][0] += parts[i][n].x, sums[n][1] += parts[i][n].y, sums[n][2] += parts[i][n].z, sums[n][3] += parts[i][n].w;
            }
          }
        }
      }
    }
    if (complete && done.tile < product.tiles) {
      const int first_token = row / task.row_groups * kTileTokens, g = lane / 4, t = lane % 4;
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int token = first_token + n * kColumnsOfMma + 2 * t + i % 2;
          if (token < task.operands.tokens) {
            finish(product, done.tile, g + i / 2 * 8, token, sums[n][i] * (task.operands.factors[token] * steps.unit));
          }
        }
      }
    }
    clear(sums);
  }
}

template <int kDepth, int kColumnTiles>
Status launch_batch(const DeviceTraits& traits, const ProductTask& product, const Operands& operands, const Workspace& workspace,
                    Stream stream) {
  const int units_of_row = (product.blocks + kUnitBlocks - 1) / kUnitBlocks, row_groups = (product.tiles + kWarps - 1) / kWarps;
  const int64_t rows = int64_t{row_groups} * operands.tile_count(), units = rows * units_of_row;
  if (rows > kCounters || units > (int64_t{1} << 30)) return cudaErrorInvalidValue;
  const int grid = static_cast<int>(std::min<int64_t>(units, traits.multiprocessors));
  const BatchTask task{product,      operands,   static_cast<float*>(workspace.partial_sums), workspace.counters,
                       units_of_row, row_groups, Runs(static_cast<int>(units), grid)};
  return launch_kernel(multiply_batch<kDepth, kColumnTiles>, traits, static_cast<unsigned>(grid), kThreads,
                       kStages * kUnitChunks * kColumnTiles * kColumnsOfMma * kChunkBytes, stream, task);
}

template <int kDepth>
Status launch_depth(const DeviceTraits& traits, const ProductTask& task, const Operands& operands, const Workspace& workspace,
                    Stream stream) {
  switch (operands.tile_tokens) {
    case 8: return launch_batch<kDepth, 1>(traits, task, operands, workspace, stream);
    case 16: return launch_batch<kDepth, 2>(traits, task, operands, workspace, stream);
    default: return launch_batch<kDepth, 4>(traits, task, operands, workspace, stream);
  }
}

}  // namespace

int batch_tile_tokens(const DeviceTraits& traits, int tokens) noexcept {
  constexpr int kStageBytesOfToken = kUnitChunks * kChunkBytes;
  const int most = kStages * 32 * kStageBytesOfToken <= traits.shared_bytes ? 32 : 16;
  return tokens <= 8 ? 8 : tokens <= 16 ? 16 : most;
}

size_t partial_sum_bytes(const DeviceTraits& traits) noexcept {
  constexpr size_t kLargest = size_t{2} * kThreads * 4 * 4 * sizeof(float);
  return static_cast<size_t>(traits.multiprocessors) * kLargest;
}

Status multiply_several_tokens(const DeviceTraits& traits, int depth, const ProductTask& task, const Operands& operands,
                               const Workspace& workspace, Stream stream) {
  switch (depth) {
    case 0: return launch_depth<0>(traits, task, operands, workspace, stream);
    case 1: return launch_depth<1>(traits, task, operands, workspace, stream);
    case 2: return launch_depth<2>(traits, task, operands, workspace, stream);
    case 3: return launch_depth<3>(traits, task, operands, workspace, stream);
    default: return launch_depth<4>(traits, task, operands, workspace, stream);
  }
}

}  // namespace tritllm::cuda
