// Owns the product of packed matrices with one token: memory-bound, so everything but reading the weights has to hide behind it.
//
// One block of 16 warps takes a contiguous run of tiles; its warps take the items of those tiles in turn, hold an item in registers
// and ask for the next as words are used up. The activations become the B operand of the mma with columns as groups: column c of a
// block holds the activations of group c only, so each sum belongs to one row and group and is scaled once, and no lane does work
// that is thrown away. Weights are asked for before the kernel that computes the activations has ended.
#include <algorithm>

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/product.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kWarps = 16, kHalfGroup = kGroupColumns / 2;
// What a block has of shared memory besides its layout, and a bound that keeps sizes far from overflow.
constexpr int kReservedBytes = 2048;
constexpr int64_t kMostColumns = 1 << 20;

// Shared memory: one word an input (its half in the low or high half-word), a line of zeros for the columns that are other groups',
// the starting sum of each group, the sums of each tile and warp, and the gains of a norm.
constexpr int kZeroLine = 8, kZeroWords = 16;  // the line begins 8 words on, so that its banks differ
struct SharedLayout {
  int starts, sums, gains, bytes;

  __host__ __device__ SharedLayout(int warps, int blocks, int tiles, bool norm) {
    starts = (blocks * kBlockColumns + kZeroLine + kZeroWords + 31) / 32 * 32;
    sums = starts + (blocks * kBlockGroups + 31) / 32 * 32;
    gains = sums + tiles * warps * kTileRows;
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

// The place of a half group among the operands: column 2t of the mma is group t of a block, column 2t + 1 is group 4 + t, and groups
// are stored in the order of columns.
TRIT_DEVICE int column_place(int group) { return (group & ~7) + 2 * (group & 3) + ((group >> 2) & 1); }
TRIT_DEVICE uint32_t* operand_place(uint32_t* operands, int half_group) {
  return operands + column_place(half_group / 2) * kGroupColumns + half_group % 2 * kHalfGroup;
}

// Copies a half group; zeros beyond `columns`.
TRIT_DEVICE void fetch_half_group(uint32_t* to, const float* from, int first, int columns) {
#pragma unroll
  for (int i = 0; i < kHalfGroup; i += 4) {
    const int count = max(0, min(4, columns - first - i));
    copy_async_part(shared_address(to + i), count > 0 ? from + first + i : from, count * 4);
  }
}

// Brings the activations into shared memory. Each thread has half groups of its own and copies them to the words where their operands
// will be, so that no thread waits for another. The code is short rather than unrolled: a launch runs it once, and instructions
// have to be fetched.
template <int kDepth, int kWarps>
struct OperandPreparation {
  static constexpr int kThreads = kWarps * kLanes;
  const ProductTask& task;
  uint32_t* operands;
  float* starts;
  uint32_t* gains;
  int thread, halves;

  // The gains do not depend on the previous kernel.
  TRIT_DEVICE void fetch_gains() {
    if (task.input.gain == nullptr) return;
    for (int half = thread; half < halves; half += kThreads) {
      fetch_half_group(gains + half * kHalfGroup, task.input.gain, half * kHalfGroup, task.columns);
    }
  }

  // Returns the factor that the sums lack. `scratch` has room for two numbers a warp.
  TRIT_DEVICE float prepare(float* scratch) {
    const int lane = thread % kLanes, warp = thread / kLanes;
#pragma unroll 1
    for (int half = thread; half < halves; half += kThreads) {
      fetch_half_group(operand_place(operands, half), task.input.rows, half * kHalfGroup, task.columns);
    }
    commit_copies();
    wait_for_copies<0>();
    float squares = 0.0f;
    uint32_t largest = 0;
#pragma unroll 1
    for (int half = thread; half < halves; half += kThreads) {
      float4* at = reinterpret_cast<float4*>(operand_place(operands, half));
      float4 a = at[0], b = at[1];
      if (task.input.gain != nullptr) {
        squares += a.x * a.x + a.y * a.y + a.z * a.z + a.w * a.w + b.x * b.x + b.y * b.y + b.z * b.z + b.w * b.w;
        const float4* gain = reinterpret_cast<const float4*>(gains + half * kHalfGroup);
        const float4 p = gain[0], q = gain[1];
        a.x *= p.x, a.y *= p.y, a.z *= p.z, a.w *= p.w, b.x *= q.x, b.y *= q.y, b.z *= q.z, b.w *= q.w;
        at[0] = a, at[1] = b;
      }
      const float top = fmaxf(fmaxf(fmaxf(fabsf(a.x), fabsf(a.y)), fmaxf(fabsf(a.z), fabsf(a.w))),
                              fmaxf(fmaxf(fabsf(b.x), fabsf(b.y)), fmaxf(fabsf(b.z), fabsf(b.w))));
      largest = max(largest, __float_as_uint(top));
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
    // Whole warps take part, so that neighbours can exchange their halves' sums; the number of half groups is a multiple of 16.
#pragma unroll 1
    for (int half = thread; half - lane < halves; half += kThreads) {
      const int own = min(half, halves - 1), second = own % 2, group = own / 2;
      float4* at = reinterpret_cast<float4*>(operand_place(operands, own));
      const float4 a = at[0], b = at[1];
      const float values[kHalfGroup] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
      uint32_t words[kHalfGroup];
      float start = 0.0f;
      const int shift = (group & 4) != 0 ? 16 : 0;
#pragma unroll
      for (int i = 0; i < kHalfGroup; ++i) {
        const float inverse_power = second == 0 ? 1.0f / field_power(kDepth, i) : 1.0f / field_power(kDepth, i + kHalfGroup);
        const float base = second == 0 ? field_base(kDepth, i) : field_base(kDepth, i + kHalfGroup);
        const __half value = __float2half_rn(values[i] * factor * inverse_power);
        start -= base * __half2float(value);
        words[i] = static_cast<uint32_t>(__half_as_ushort(value)) << shift;
      }
      start += __shfl_xor_sync(0xffffffffu, start, 1);
      if (half < halves) {
        uint4* to = reinterpret_cast<uint4*>(at);
        to[0] = make_uint4(words[0], words[1], words[2], words[3]);
        to[1] = make_uint4(words[4], words[5], words[6], words[7]);
        if (second == 0) starts[column_place(group)] = start;
      }
    }
    return 1.0f / scale;
  }
};

template <int kDepth, int kWarps, int kBlocksPerMultiprocessor>
__global__ void __launch_bounds__(kWarps * kLanes, kBlocksPerMultiprocessor) multiply_single(const __grid_constant__ ProductTask task, const Runs runs) {
  constexpr int kThreads = kWarps * kLanes;
  extern __shared__ __align__(128) uint32_t memory[];
  __shared__ float scratch[2 * kWarps];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  allow_next_kernel();
  const int first_tile = runs.begin(static_cast<int>(blockIdx.x)), end_tile = runs.begin(static_cast<int>(blockIdx.x) + 1);
  const SharedLayout layout(kWarps, task.blocks, end_tile - first_tile, task.input.gain != nullptr);
  float* starts = reinterpret_cast<float*>(memory) + layout.starts;
  float* sums = reinterpret_cast<float*>(memory) + layout.sums;

  // The item at hand: number `index` of tile `tile`.
  int tile = first_tile, index = warp;
  const auto normalise = [&](int& tile, int& index) {
    while (index >= task.items) index -= task.items, ++tile;
  };
  normalise(tile, index);
  using Blocks = Item<kDepth>;
  const auto address = [&](int tile, int index) { return tile_address(task, tile) + static_cast<size_t>(index) * Blocks::kBytes; };
  const auto blocks_in = [&](int index) { return min(Blocks::kBlocks, task.blocks - index * Blocks::kBlocks); };

  Blocks item;
  if (tile < end_tile) {
    const uint8_t* at = address(tile, index);
    const int count = blocks_in(index);
#pragma unroll
    for (int block = 0; block < Blocks::kBlocks; ++block) item.load_block(at, block, count, lane);
    item.load_scales(at, count, lane);
  }
  OperandPreparation<kDepth, kWarps> preparation{task, memory, starts, memory + layout.gains, thread, task.blocks * kBlockGroups * 2};
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
    const float steps = kDepth > 0 ? tables.of_part(part_of_tile(task, tile)) : 0.0f;
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
      add_block<kDepth>(words, codes, steps, operands + block * block_step, *reinterpret_cast<const float2*>(start + block * kBlockGroups),
                        sum, sum8);
    };
    if (count == Blocks::kBlocks) {
      // Without a branch between blocks their instructions mix.
#pragma unroll
      for (int block = 0; block < Blocks::kBlocks; ++block) work(block);
    } else {
      // The last item of a tile: the next one of this warp has no more blocks than a full one, and is asked for whole.
#pragma unroll
      for (int block = 0; block < Blocks::kBlocks; ++block) {
        if (block < count) work(block); else item.load_block(next, block, next_count, lane);
      }
    }
    item.load_scales(next, next_count, lane);
    if (next_tile != tile) store_sums(tile);
    tile = next_tile, index = next_index;
  }
  __syncthreads();

  // Eight threads add up one row.
  for (int i = thread; i < (end_tile - first_tile) * kTileRows * 8; i += kThreads) {
    const int row = i / 8, part = i % 8, tile_of_block = row / kTileRows;
    const float* from = sums + (tile_of_block * kWarps + part) * kTileRows + row % kTileRows;
    float total = from[0];
    if constexpr (kWarps == 16) total += from[8 * kTileRows];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    total += __shfl_xor_sync(0xffffffffu, total, 4);
    if (part == 0) finish(task, first_tile + tile_of_block, row % kTileRows, 0, total * factor);
  }
}

template <int kDepth, int kWarps, int kBlocksPerMultiprocessor>
Status launch_variant(const DeviceTraits& traits, const ProductTask& task, Stream stream) {
  // One wave where its sums fit into shared memory, else as many blocks as they need.
  const bool norm = task.input.gain != nullptr;
  const int room = traits.shared_bytes / kBlocksPerMultiprocessor - SharedLayout(kWarps, task.blocks, 0, norm).bytes - kReservedBytes;
  const int most_tiles = room / (kWarps * kTileRows * 4);
  if (most_tiles < 1) return cudaErrorInvalidValue;
  const int wave = traits.multiprocessors * kBlocksPerMultiprocessor;
  const int each = std::min((task.tiles + wave - 1) / wave, most_tiles), grid = (task.tiles + each - 1) / each;
  return launch_kernel(multiply_single<kDepth, kWarps, kBlocksPerMultiprocessor>, traits, static_cast<unsigned>(grid), kWarps * kLanes,
                       SharedLayout(kWarps, task.blocks, each, norm).bytes, stream, task, Runs(task.tiles, grid));
}

template <int kDepth>
Status launch_single(const DeviceTraits& traits, const ProductTask& task, Stream stream) {
  static const int tune = getenv("TRIT_TUNE") ? atoi(getenv("TRIT_TUNE")) : 0;
  return tune ? launch_variant<kDepth, 8, 2>(traits, task, stream) : launch_variant<kDepth, 16, 1>(traits, task, stream);
}

}  // namespace

bool fits_single(const DeviceTraits& traits, int64_t columns, bool norm) noexcept {
  return columns <= kMostColumns && SharedLayout(kWarps, blocks_of(columns), 1, norm).bytes + kReservedBytes <= traits.shared_bytes;
}

Status multiply_single_token(const DeviceTraits& traits, int depth, const ProductTask& task, Stream stream) {
  switch (depth) {
    case 0: return launch_single<0>(traits, task, stream);
    case 1: return launch_single<1>(traits, task, stream);
    case 2: return launch_single<2>(traits, task, stream);
    case 3: return launch_single<3>(traits, task, stream);
    default: return launch_single<4>(traits, task, stream);
  }
}

}  // namespace tritllm::cuda
