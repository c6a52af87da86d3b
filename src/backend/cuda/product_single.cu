// Owns the product of packed matrices with one token: memory-bound, so everything but reading the weights has to hide behind it.
//
// One block of 16 warps takes a contiguous run of tiles; its warps take the items of those tiles in turn, hold an item in registers
// and ask for the next as words are used up. The activations become the B operand of the mma with columns as groups: column c of a
// block holds the activations of group c only, so each sum belongs to one row and group and is scaled once, and no lane does work
// that is thrown away. Weights are asked for before the kernel that computes the activations has ended.
#include <algorithm>

#include "backend/cuda/activation.cuh"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/product.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kWarps = 16, kThreads = kWarps * kLanes, kHalfGroup = kGroupColumns / 2;
// Half groups that a thread prepares at most.
constexpr int kHeldHalves = 4;
constexpr int64_t kMostColumns = kThreads * kHeldHalves * kHalfGroup;
// What a block has of shared memory besides its layout.
constexpr int kReservedBytes = 2048;

// Shared memory: one word an input (its half in the low or high half-word), a line of zeros for the columns that are other groups',
// the starting sum of each group, the sums of each tile and warp, and the gains of a norm.
constexpr int kZeroLine = 8, kZeroWords = 16;  // the line begins 8 words on, so that its banks differ
struct SharedLayout {
  int starts, sums, gains, bytes;

  __host__ __device__ SharedLayout(int blocks, int tiles, bool norm) {
    starts = (blocks * kBlockColumns + kZeroLine + kZeroWords + 31) / 32 * 32;
    sums = starts + (blocks * kBlockGroups + 31) / 32 * 32;
    gains = sums + tiles * kWarps * kTileRows;
    bytes = (gains + (norm ? blocks * kBlockColumns : 0)) * 4;
  }
};

template <int kDepth>
struct Item {
  static constexpr int kBlocks = item_blocks(kDepth), kBlockWords = block_words(kDepth);
  static constexpr size_t kBlockBytes = block_bytes(kDepth), kBytes = item_bytes(kDepth);

  uint32_t words[kBlocks][kBlockWords];
  uint32_t scales[kScaleWords];

  // Nothing where the item has no such block.
  TRIT_DEVICE void load_block(const uint8_t* item, int block, int blocks, int lane) {
    load_run<kBlockWords>(words[block], item + static_cast<size_t>(block) * kBlockBytes, lane, block < blocks);
  }
  TRIT_DEVICE void load_scales(const uint8_t* item, int blocks, int lane) {
    if constexpr (kDepth > 0) load_scale_words(scales, item + static_cast<size_t>(blocks) * kBlockBytes, lane, blocks > 0);
  }
};

// One block of 16 rows × 128 inputs: rows g and g + 8 get their lane's share of the sum.
template <int kDepth>
TRIT_DEVICE void add_block(const uint32_t* words, uint32_t scale_codes, float steps, const uint32_t* operands, float2 start,
                           float& sum, float& sum8) {
  uint32_t rows[16], rows8[16];
  Decoder<kDepth>::fields(words, rows);
  Decoder<kDepth>::fields(words + half_words(kDepth), rows8);
  float c[4] = {start.x, start.y, start.x, start.y};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint4 b = *reinterpret_cast<const uint4*>(operands + 4 * i);
    mma_16x8x16(c, rows[4 * i], rows8[4 * i], rows[4 * i + 1], rows8[4 * i + 1], b.x, b.y);
    mma_16x8x16(c, rows[4 * i + 2], rows8[4 * i + 2], rows[4 * i + 3], rows8[4 * i + 3], b.z, b.w);
  }
  if constexpr (kDepth == 0) {
    sum += c[0] + c[1];
    sum8 += c[2] + c[3];
  } else {
    sum = fmaf(look_up(steps, scale_codes), c[0], sum);
    sum = fmaf(look_up(steps, scale_codes >> kScaleCodeBits), c[1], sum);
    sum8 = fmaf(look_up(steps, scale_codes >> (2 * kScaleCodeBits)), c[2], sum8);
    sum8 = fmaf(look_up(steps, scale_codes >> (3 * kScaleCodeBits)), c[3], sum8);
  }
}

// Operands are stored in the order of the mma's columns: column 2t is group t of a block, column 2t + 1 is group 4 + t. The half
// group at a place, both counted over all blocks:
TRIT_DEVICE int half_group_at(int place) {
  const int column = place / 2, group = (column & ~7) | ((column >> 1) & 3) | ((column & 1) << 2);
  return 2 * group + place % 2;
}

// Eight values from `first` on; zeros beyond `columns`.
TRIT_DEVICE void load_half_group(float (&values)[kHalfGroup], const float* from, int first, int columns) {
  if (first + kHalfGroup <= columns) {
    const float4 a = __ldcg(reinterpret_cast<const float4*>(from + first)),
                 b = __ldcg(reinterpret_cast<const float4*>(from + first) + 1);
    values[0] = a.x, values[1] = a.y, values[2] = a.z, values[3] = a.w;
    values[4] = b.x, values[5] = b.y, values[6] = b.z, values[7] = b.w;
  } else {
#pragma unroll
    for (int i = 0; i < kHalfGroup; ++i) values[i] = first + i < columns ? __ldcg(from + first + i) : 0.0f;
  }
}

// Brings the activations into shared memory. Each thread has the half groups of some places, which it holds in registers between
// the two passes: over the sizes, then over the operands. Where a row is short the later half groups' code is jumped over: a launch
// runs it once, and instructions have to be fetched.
template <int kDepth>
struct OperandPreparation {
  const ProductTask& task;
  uint32_t* operands;
  float* starts;
  float* gains;  // by place
  int thread, halves;

  // The gains do not depend on the previous kernel.
  TRIT_DEVICE void fetch_gains() {
    if (task.input.gain == nullptr) return;
#pragma unroll 1
    for (int place = thread; place < halves; place += kThreads) {
      float values[kHalfGroup];
      load_half_group(values, task.input.gain, half_group_at(place) * kHalfGroup, task.columns);
      float4* to = reinterpret_cast<float4*>(gains + place * kHalfGroup);
      to[0] = make_float4(values[0], values[1], values[2], values[3]);
      to[1] = make_float4(values[4], values[5], values[6], values[7]);
    }
  }

  TRIT_DEVICE void examine(float (&values)[kHalfGroup], int place, float& squares, uint32_t& largest) {
    if (task.input.gain != nullptr) {
      const float4* gain = reinterpret_cast<const float4*>(gains + place * kHalfGroup);
      const float4 a = gain[0], b = gain[1];
      const float factors[kHalfGroup] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < kHalfGroup; ++i) {
        squares = fmaf(values[i], values[i], squares);
        values[i] *= factors[i];
      }
    }
#pragma unroll
    for (int i = 0; i < kHalfGroup; ++i) largest = max(largest, __float_as_uint(values[i]) & 0x7fffffffu);
  }

  // Whole warps come here, so that neighbours can exchange their halves' sums.
  TRIT_DEVICE void store(const float (&values)[kHalfGroup], int place, float factor) {
    const int second = place % 2, shift = (place & 2) != 0 ? 16 : 0;  // odd columns are groups 4 to 7: high halves
    uint32_t words[kHalfGroup];
    float start = 0.0f;
#pragma unroll
    for (int i = 0; i < kHalfGroup; ++i) {
      const float inverse_power = second == 0 ? 1.0f / field_power(kDepth, i) : 1.0f / field_power(kDepth, i + kHalfGroup);
      const float base = second == 0 ? field_base(kDepth, i) : field_base(kDepth, i + kHalfGroup);
      const __half value = __float2half_rn(values[i] * factor * inverse_power);
      start = fmaf(-base, __half2float(value), start);
      words[i] = static_cast<uint32_t>(__half_as_ushort(value)) << shift;
    }
    start += __shfl_xor_sync(0xffffffffu, start, 1);
    if (place >= halves) return;
    uint4* to = reinterpret_cast<uint4*>(operands + place * kHalfGroup);
    to[0] = make_uint4(words[0], words[1], words[2], words[3]);
    to[1] = make_uint4(words[4], words[5], words[6], words[7]);
    if (second == 0) starts[place / 2] = start;
  }

  // Returns the factor that the sums lack. `scratch` has room for two numbers a warp.
  TRIT_DEVICE float prepare(float* scratch) {
    const int lane = thread % kLanes, warp = thread / kLanes;
    float held[kHeldHalves][kHalfGroup], squares = 0.0f;
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kHeldHalves; ++i) {
      const int place = thread + i * kThreads;
      // Places beyond the last block count as columns beyond the row.
      if (i * kThreads < halves) load_half_group(held[i], task.input.rows, half_group_at(place) * kHalfGroup, task.columns);
    }
#pragma unroll
    for (int i = 0; i < kHeldHalves; ++i) {
      if (thread + i * kThreads < halves) examine(held[i], thread + i * kThreads, squares, largest);
    }
    largest = __reduce_max_sync(0xffffffffu, largest);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, distance);
    if (lane == 0) scratch[warp] = __uint_as_float(largest), scratch[kWarps + warp] = squares;
    __syncthreads();
    // Every warp adds up all warps' parts in the same order.
    largest = __reduce_max_sync(0xffffffffu, __float_as_uint(scratch[lane % kWarps]));
    float norm = 1.0f;
    if (task.input.gain != nullptr) {
      squares = scratch[kWarps + lane % kWarps];
#pragma unroll
      for (int distance = kWarps / 2; distance > 0; distance /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, distance);
      norm = rsqrtf(squares / static_cast<float>(task.columns) + task.input.epsilon);
      largest = __float_as_uint(__uint_as_float(largest) * norm);
    }
    const float scale = operand_scale(largest), factor = norm * scale;
#pragma unroll
    for (int i = 0; i < kHeldHalves; ++i) {
      if (warp * kLanes + i * kThreads < halves) store(held[i], thread + i * kThreads, factor);
    }
    return 1.0f / scale;
  }
};

// Of which part a tile is, and its number there. Gated: tiles of the two parts take turns, so that the two numbers which become one
// are in one block.
struct TilePlace {
  int part, tile;
};
template <bool kGated>
TRIT_DEVICE TilePlace place_of_tile(const ProductTask& task, int tile) {
  if constexpr (kGated) return {tile % 2, tile / 2};
  const int part = part_of_tile(task, tile);
  return {part, tile - task.parts[part].first_tile};
}

template <int kDepth, bool kGated>
__global__ void __launch_bounds__(kThreads, 1)
    multiply_single(const __grid_constant__ ProductTask task, const Runs runs, const GateKind gate) {
  constexpr int kTogether = kGated ? 2 : 1;  // tiles that stay in one block
  extern __shared__ __align__(128) uint32_t memory[];
  __shared__ float scratch[2 * kWarps];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  allow_next_kernel();
  const int first_tile = runs.begin(static_cast<int>(blockIdx.x)) * kTogether,
            end_tile = runs.begin(static_cast<int>(blockIdx.x) + 1) * kTogether;
  const SharedLayout layout(task.blocks, end_tile - first_tile, task.input.gain != nullptr);
  float* starts = reinterpret_cast<float*>(memory) + layout.starts;
  float* sums = reinterpret_cast<float*>(memory) + layout.sums;

  // The item at hand: number `index` of tile `tile`.
  int tile = first_tile, index = warp;
  const auto normalise = [&](int& tile, int& index) {
    while (index >= task.items) index -= task.items, ++tile;
  };
  normalise(tile, index);
  using Blocks = Item<kDepth>;
  const auto address = [&](int tile, int index) {
    const TilePlace place = place_of_tile<kGated>(task, tile);
    return task.parts[place.part].tiles + static_cast<uint64_t>(place.tile) * task.tile_bytes +
           static_cast<size_t>(index) * Blocks::kBytes;
  };
  const auto blocks_in = [&](int index) { return min(Blocks::kBlocks, task.blocks - index * Blocks::kBlocks); };

  Blocks item;
  if (tile < end_tile) {
    const uint8_t* at = address(tile, index);
    const int count = blocks_in(index);
#pragma unroll
    for (int block = 0; block < Blocks::kBlocks; ++block) item.load_block(at, block, count, lane);
    item.load_scales(at, count, lane);
  }
  OperandPreparation<kDepth> preparation{
      task, memory, starts, reinterpret_cast<float*>(memory) + layout.gains, thread, task.blocks * kBlockGroups * 2};
  preparation.fetch_gains();
  StepTables tables;
  if constexpr (kDepth > 0) tables.load(task, lane);
  for (int i = thread; i < (end_tile - first_tile) * kWarps * kTileRows; i += kThreads) sums[i] = 0.0f;
  if (thread < kZeroWords) memory[task.blocks * kBlockColumns + kZeroLine + thread] = 0;

  wait_for_previous_kernel();
  const float factor = preparation.prepare(scratch);
  __syncthreads();

  // Lane (g, t) reads column g's activations where its groups t and 4 + t are that column's, and zeros elsewhere.
  const int g = lane / 4, t = lane % 4;
  const bool active = t == g / 2;
  const uint32_t* operand_column = memory + (active ? g * kGroupColumns : task.blocks * kBlockColumns + kZeroLine);
  const int block_step = active ? kBlockColumns : 0;
  float sum = 0.0f, sum8 = 0.0f;
  const auto store_sums = [&](int tile) {
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum8 += __shfl_xor_sync(0xffffffffu, sum8, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    sum8 += __shfl_xor_sync(0xffffffffu, sum8, 2);
    float* to = sums + ((tile - first_tile) * kWarps + warp) * kTileRows + g;
    if (t == 0) to[0] = sum, to[8] = sum8;
    sum = sum8 = 0.0f;
  };

#pragma unroll 1
  while (tile < end_tile) {
    int next_tile = tile, next_index = index + kWarps;
    normalise(next_tile, next_index);
    const bool more = next_tile < end_tile;
    const uint8_t* next = more ? address(next_tile, next_index) : nullptr;
    const int count = blocks_in(index), next_count = more ? blocks_in(next_index) : 0;
    const float steps = kDepth > 0 ? tables.of_part(place_of_tile<kGated>(task, tile).part) : 0.0f;
    uint32_t scales[kScaleWords];
    if constexpr (kDepth > 0) {
#pragma unroll
      for (int i = 0; i < kScaleWords; ++i) scales[i] = item.scales[i];
    }
    const uint32_t* operands = operand_column + index * Blocks::kBlocks * block_step;
    const float* start = starts + index * Blocks::kBlocks * kBlockGroups + 2 * t;
    const auto work = [&](int block) __attribute__((always_inline)) {
      uint32_t words[Blocks::kBlockWords];
#pragma unroll
      for (int i = 0; i < Blocks::kBlockWords; ++i) words[i] = item.words[block][i];
      item.load_block(next, block, next_count, lane);
      uint32_t codes = 0;
      if constexpr (kDepth > 0) codes = block_scale_codes(scales, block);
      add_block<kDepth>(words, codes, steps, operands + block * block_step,
                        *reinterpret_cast<const float2*>(start + block * kBlockGroups), sum, sum8);
    };
    if (count == Blocks::kBlocks) {
      // Without a branch between blocks their instructions mix.
#pragma unroll
      for (int block = 0; block < Blocks::kBlocks; ++block) work(block);
    } else {
      // The last item of a tile: the next one of this warp has no more blocks than a full one, and is asked for whole.
#pragma unroll
      for (int block = 0; block < Blocks::kBlocks; ++block) {
        if (block < count) work(block);
        else item.load_block(next, block, next_count, lane);
      }
    }
    item.load_scales(next, next_count, lane);
    if (next_tile != tile) store_sums(tile);
    tile = next_tile, index = next_index;
  }
  __syncthreads();

  // Eight threads add up one row.
  const auto total_of = [&](int tile, int row, int member) {
    const float* from = sums + ((tile - first_tile) * kWarps + member) * kTileRows + row;
    float total = from[0] + from[8 * kTileRows];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    total += __shfl_xor_sync(0xffffffffu, total, 4);
    return total * factor;
  };
  for (int i = thread; i < (end_tile - first_tile) / kTogether * kTileRows * 8; i += kThreads) {
    const int row = i / 8 % kTileRows, member = i % 8, tile = first_tile + i / 8 / kTileRows * kTogether;
    const float total = total_of(tile, row, member);
    if constexpr (kGated) {
      const float up = total_of(tile + 1, row, member);
      const TaskPart& part = task.parts[0];
      const int out_row = tile / 2 * kTileRows + row;
      if (member == 0 && out_row < part.rows) {
        part.out[out_row] = activation(gate, completed(part, out_row, total)) * completed(task.parts[1], out_row, up);
      }
    } else {
      if (member == 0) finish(task, tile, row, 0, total);
    }
  }
}

template <int kDepth, bool kGated>
Status launch_single(const DeviceTraits& traits, const ProductTask& task, Stream stream, GateKind gate = {}) {
  // One wave where its sums fit into shared memory, else as many blocks as they need.
  const bool norm = task.input.gain != nullptr;
  const int room = traits.shared_bytes - SharedLayout(task.blocks, 0, norm).bytes - kReservedBytes;
  constexpr int kTogether = kGated ? 2 : 1;
  const int units = task.tiles / kTogether, most_units = room / (kWarps * kTileRows * 4) / kTogether;
  if (most_units < 1) return cudaErrorInvalidValue;
  const int each = std::min((units + traits.multiprocessors - 1) / traits.multiprocessors, most_units);
  const int grid = (units + each - 1) / each;
  return launch_kernel(multiply_single<kDepth, kGated>, traits, static_cast<unsigned>(grid), kThreads,
                       SharedLayout(task.blocks, each * kTogether, norm).bytes, stream, task, Runs(units, grid), gate);
}

}  // namespace

bool fits_single(const DeviceTraits& traits, int64_t columns, bool norm, int tiles) noexcept {
  return columns <= kMostColumns && SharedLayout(blocks_of(columns), tiles, norm).bytes + kReservedBytes <= traits.shared_bytes;
}

Status multiply_single_token(const DeviceTraits& traits, int depth, const ProductTask& task, Stream stream) {
  switch (depth) {
    case 0: return launch_single<0, false>(traits, task, stream);
    case 1: return launch_single<1, false>(traits, task, stream);
    case 2: return launch_single<2, false>(traits, task, stream);
    case 3: return launch_single<3, false>(traits, task, stream);
    default: return launch_single<4, false>(traits, task, stream);
  }
}

Status multiply_single_gated(const DeviceTraits& traits, int depth, GateKind kind, const ProductTask& task, Stream stream) {
  switch (depth) {
    case 0: return launch_single<0, true>(traits, task, stream, kind);
    case 1: return launch_single<1, true>(traits, task, stream, kind);
    case 2: return launch_single<2, true>(traits, task, stream, kind);
    case 3: return launch_single<3, true>(traits, task, stream, kind);
    default: return launch_single<4, true>(traits, task, stream, kind);
  }
}

}  // namespace tritllm::cuda
