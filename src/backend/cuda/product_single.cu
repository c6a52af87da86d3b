// Owns the product of packed matrices with one token: memory-bound, so everything but reading the weights has to hide behind it.
//
// One block of 16 warps takes a contiguous run of tiles; its warps take the items of those tiles in turn. Each warp has a ring of
// blocks of weights in shared memory: while it multiplies one, the next are on their way. The activations become the B operand of
// the mma with columns as groups: column c of a block holds the activations of group c only, so each sum belongs to one row and
// group and is scaled once, and no lane does work that is thrown away.
//
// Part of the ring is asked for before the kernel that computes the activations has ended, the rest behind the activations, which
// must not queue behind weights. What comes before the first product counts fully, as a multiprocessor has room for one block only:
// code there is short, and integer instructions, which take two cycles each, are few.
#include <algorithm>

#include "backend/cuda/activation.cuh"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/product.cuh"
#include "backend/cuda/weight_stream.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kWarps = 16, kThreads = kWarps * kLanes, kHalfGroup = kGroupColumns / 2;
// Half groups that a thread prepares at most, of wide rows and of narrow ones.
constexpr int kWideHalves = 4, kNarrowHalves = 1;
constexpr int64_t columns_of_halves(int halves) { return static_cast<int64_t>(kThreads) * halves * kHalfGroup; }
// What a block has of shared memory besides its layout.
constexpr int kReservedBytes = 2048;

// Shared memory: one word an input (its half in the low or high half-word), a line of zeros for the columns that are other groups',
// the starting sum of each group, the sums of each tile and warp, and the rings.
constexpr int kZeroLine = 8, kZeroWords = 16;  // the line begins 8 words on, so that its banks differ
struct SharedLayout {
  int starts, sums, rings;  // in words
  int bytes;

  __host__ __device__ SharedLayout(int blocks, int tiles, int ring_bytes) {
    starts = blocks * kBlockColumns + 32;
    sums = starts + (blocks * kBlockGroups + 31) / 32 * 32;
    rings = sums + tiles * kWarps * kTileRows;
    bytes = rings * 4 + kWarps * ring_bytes;
  }
};
static_assert(kZeroLine + kZeroWords <= 32);

// The kernel is compiled for rows of up to 4,096 inputs, for wider ones, and for wider ones on cards with little shared memory.
enum class Width { kNarrow, kWide, kWideShortRing };

// Blocks that a warp has on their way, and how many of them it asks for before the activations are there.
constexpr int ring_slots(int depth, Width width) {
  constexpr int kFull[] = {1, 4, 4, 2, 2}, kShort[] = {1, 4, 2, 1, 1};
  return width == Width::kWideShortRing ? kShort[depth] : kFull[depth];
}
constexpr int ring_bytes(int depth, Width width) {
  return ring_slots(depth, width) * static_cast<int>(block_bytes(depth)) + scale_words(depth) * kLanes * 4;
}
constexpr int early_slots(int depth) {
  constexpr int kEarly[] = {1, 2, 2, 1, 1};
  return kEarly[depth];
}

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
// group at a place, both counted over all blocks; the order repeats after 16 places.
TRIT_DEVICE uint32_t half_group_at(uint32_t place) {
  const uint32_t column = place / 2, group = (column & ~7u) | ((column >> 1) & 3) | ((column & 1) << 2);
  return 2 * group + place % 2;
}

// Eight values from `first` on; zeros beyond `columns`.
TRIT_DEVICE void load_half_group(float (&values)[kHalfGroup], const float* from, int first, int columns) {
  from += first;
  if (first + kHalfGroup <= columns) {
    const float4 a = __ldcg(reinterpret_cast<const float4*>(from)), b = __ldcg(reinterpret_cast<const float4*>(from) + 1);
    values[0] = a.x, values[1] = a.y, values[2] = a.z, values[3] = a.w;
    values[4] = b.x, values[5] = b.y, values[6] = b.z, values[7] = b.w;
  } else {
#pragma unroll
    for (int i = 0; i < kHalfGroup; ++i) values[i] = first + i < columns ? __ldcg(from + i) : 0.0f;
  }
}

// Brings the activations into shared memory. Each thread has the half groups at places thread, thread + kThreads, ..., which it
// holds in registers between the two passes: over the sizes, then over the operands.
template <int kDepth, int kHeld>
struct OperandPreparation {
  const ProductTask& task;
  uint32_t* operands;
  float* starts;
  int thread, halves;
  float gains[kHeld][kHalfGroup], values[kHeld][kHalfGroup];

  // Whether any thread has a place in turn `i`.
  TRIT_DEVICE bool has(int i) const { return kHeld == 1 || i * kThreads < halves; }

  // Places beyond the last block count as columns beyond the row.
  TRIT_DEVICE void load(float (&to)[kHeld][kHalfGroup], const float* row) {
    const int first = static_cast<int>(half_group_at(static_cast<uint32_t>(thread))) * kHalfGroup;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (has(i)) load_half_group(to[i], row, first + i * kThreads * kHalfGroup, task.columns);
    }
  }
  // The gains do not depend on the previous kernel.
  TRIT_DEVICE void load_gains() {
    if (task.input.gain != nullptr) load(gains, task.input.gain);
  }
  TRIT_DEVICE void load_values() { load(values, task.input.rows); }

  TRIT_DEVICE void examine(int i, float& squares, uint32_t& largest) {
    if (task.input.gain != nullptr) {
#pragma unroll
      for (int k = 0; k < kHalfGroup; ++k) {
        squares = fmaf(values[i][k], values[i][k], squares);
        values[i][k] *= gains[i][k];
      }
    }
#pragma unroll
    for (int k = 0; k < kHalfGroup; ++k) largest = max(largest, __float_as_uint(values[i][k]) & 0x7fffffffu);
  }

  // Whole warps come here, so that neighbours can exchange their halves' sums.
  TRIT_DEVICE void store(int i, float factor) {
    const int place = thread + i * kThreads;
    const bool second = place % 2 != 0;
    // Odd columns are groups 4 to 7 and lie in the high halves of words; the other half is zero.
    const uint32_t low_to = (place & 2) != 0 ? 0x1044 : 0x4410, high_to = (place & 2) != 0 ? 0x3244 : 0x4432;
    uint32_t words[kHalfGroup];
    float start = 0.0f;
#pragma unroll
    for (int k = 0; k < kHalfGroup; k += 2) {
      const auto part = [&](int slot) {
        const float power = second ? 1.0f / field_power(kDepth, slot + kHalfGroup) : 1.0f / field_power(kDepth, slot);
        return values[i][slot] * factor * power;
      };
      const auto base = [&](int slot) { return second ? field_base(kDepth, slot + kHalfGroup) : field_base(kDepth, slot); };
      const half2 pair = __floats2half2_rn(part(k), part(k + 1));
      start = fmaf(-base(k), __low2float(pair), start);
      start = fmaf(-base(k + 1), __high2float(pair), start);
      words[k] = __byte_perm(as_word(pair), 0, low_to);
      words[k + 1] = __byte_perm(as_word(pair), 0, high_to);
    }
    start += __shfl_xor_sync(0xffffffffu, start, 1);
    if (place >= halves) return;
    uint4* to = reinterpret_cast<uint4*>(operands + place * kHalfGroup);
    to[0] = make_uint4(words[0], words[1], words[2], words[3]);
    to[1] = make_uint4(words[4], words[5], words[6], words[7]);
    if (!second) starts[place / 2] = start;
  }

  // Returns the factor that the sums lack. `scratch` has room for two numbers a warp.
  TRIT_DEVICE float prepare(float* scratch, float inverse_columns) {
    const int lane = thread % kLanes, warp = thread / kLanes;
    float squares = 0.0f;
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (thread + i * kThreads < halves) examine(i, squares, largest);
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
      norm = rsqrtf(fmaf(squares, inverse_columns, task.input.epsilon));
      largest = __float_as_uint(__uint_as_float(largest) * norm);
    }
    const float scale = operand_scale(largest), factor = norm * scale;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (warp * kLanes + i * kThreads < halves) store(i, factor);
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

template <int kDepth, bool kGated, Width kWidth>
__global__ void __launch_bounds__(kThreads, 1)
    multiply_single(const __grid_constant__ ProductTask task, const Runs runs, const GateKind gate) {
  using Weights = WeightRing<kDepth, ring_slots(kDepth, kWidth)>;
  constexpr int kTogether = kGated ? 2 : 1;  // tiles that stay in one block
  constexpr int kSlots = ring_slots(kDepth, kWidth), kEarly = std::min(early_slots(kDepth), kSlots), kBlocks = item_blocks(kDepth);
  extern __shared__ __align__(128) uint32_t memory[];
  __shared__ float scratch[2 * kWarps];
  const unsigned thread_index = threadIdx.x;
  const int thread = static_cast<int>(thread_index), lane = static_cast<int>(thread_index % kLanes),
            warp = static_cast<int>(thread_index / kLanes);
  allow_next_kernel();
  const int first_tile = runs.begin(static_cast<int>(blockIdx.x)) * kTogether,
            end_tile = runs.begin(static_cast<int>(blockIdx.x) + 1) * kTogether;
  const SharedLayout layout(task.blocks, end_tile - first_tile, Weights::kBytes);
  float* starts = reinterpret_cast<float*>(memory) + layout.starts;
  float* sums = reinterpret_cast<float*>(memory) + layout.sums;

  // The item at hand: number `index` of tile `tile`. A warp takes every kWarps-th item of the block's tiles.
  struct Place {
    int tile, index;
  };
  const auto normalised = [&](Place place) {
    while (place.index >= task.items) place.index -= task.items, ++place.tile;
    return place;
  };
  const auto address = [&](Place place) {
    const TilePlace tile = place_of_tile<kGated>(task, place.tile);
    return task.parts[tile.part].tiles + static_cast<uint64_t>(static_cast<uint32_t>(tile.tile)) * task.tile_bytes +
           static_cast<uint32_t>(place.index) * static_cast<uint32_t>(item_bytes(kDepth));
  };
  const auto blocks_in = [&](Place place) { return place.tile < end_tile ? min(kBlocks, task.blocks - place.index * kBlocks) : 0; };

  const Weights ring{shared_address(memory + layout.rings) + static_cast<uint32_t>(warp * Weights::kBytes), lane};
  Place at = normalised({first_tile, warp});
  int count = blocks_in(at);
  const uint8_t* item = count > 0 ? address(at) : nullptr;
  ring.ask_for_scales(item, count);
#pragma unroll
  for (int block = 0; block < kEarly; ++block) {
    ring.ask_for_block(item, block, count);
    ring.commit();
  }
  OperandPreparation<kDepth, kWidth == Width::kNarrow ? kNarrowHalves : kWideHalves> preparation{
      task, memory, starts, thread, task.blocks * kBlockGroups * 2, {}, {}};
  preparation.load_gains();
  StepTables tables;
  if constexpr (kDepth > 0) tables.load(task, lane);
  const float inverse_columns = 1.0f / static_cast<float>(task.columns);
#pragma unroll 1
  for (int i = thread; i < (end_tile - first_tile) * kWarps * kTileRows; i += kThreads) sums[i] = 0.0f;
  if (thread < kZeroWords) memory[task.blocks * kBlockColumns + kZeroLine + thread] = 0;

  wait_for_previous_kernel();
  preparation.load_values();
#pragma unroll
  for (int block = kEarly; block < kSlots; ++block) {
    ring.ask_for_block(item, block, count);
    ring.commit();
  }
  const float factor = preparation.prepare(scratch, inverse_columns);
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
  while (count > 0) {
    const Place next = normalised({at.tile, at.index + kWarps});
    const int next_count = blocks_in(next);
    const uint8_t* next_item = next_count > 0 ? address(next) : nullptr;
    const float steps = kDepth > 0 ? tables.of_part(place_of_tile<kGated>(task, at.tile).part) : 0.0f;
    const uint32_t* operands = operand_column + at.index * kBlocks * block_step;
    const float* start = starts + at.index * kBlocks * kBlockGroups + 2 * t;
    uint32_t scales[kScaleWords] = {};
    // Takes a block out of the ring and asks for the one that gets its place.
    const auto take_block = [&](uint32_t(&words)[Weights::kBlockWords], int block) __attribute__((always_inline)) {
      ring.wait();
      if (block == 0) {
        // The scale codes came with the item's first block.
        ring.read_scales(scales);
        ring.ask_for_scales(next_item, next_count);
      }
      ring.read_block(words, block);
      if (block + kSlots < kBlocks) {
        ring.ask_for_block(item, block + kSlots, count);
      } else {
        ring.ask_for_block(next_item, block + kSlots - kBlocks, next_count);
      }
      ring.commit();
    };
    const auto add = [&](const uint32_t(&words)[Weights::kBlockWords], int block) __attribute__((always_inline)) {
      add_block<kDepth>(words, kDepth > 0 ? block_scale_codes(scales, block) : 0, steps, operands + block * block_step,
                        *reinterpret_cast<const float2*>(start + block * kBlockGroups), sum, sum8);
    };
    if (count == kBlocks) {
      // Without a branch between blocks their instructions mix.
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        uint32_t words[Weights::kBlockWords];
        take_block(words, block);
        add(words, block);
      }
    } else {
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        uint32_t words[Weights::kBlockWords];
        take_block(words, block);
        if (block < count) add(words, block);
      }
    }
    if (next.tile != at.tile) store_sums(at.tile);
    at = next, count = next_count, item = next_item;
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

template <int kDepth, bool kGated, Width kWidth>
Status launch_of_width(const DeviceTraits& traits, const ProductTask& task, Stream stream, GateKind gate) {
  // One wave where its sums fit into shared memory, else as many blocks as they need.
  constexpr int kTogether = kGated ? 2 : 1, kRingBytes = ring_bytes(kDepth, kWidth);
  static_assert(kRingBytes == WeightRing<kDepth, ring_slots(kDepth, kWidth)>::kBytes);
  const int room = traits.shared_bytes - SharedLayout(task.blocks, 0, kRingBytes).bytes - kReservedBytes;
  const int units = task.tiles / kTogether, most_units = room / (kWarps * kTileRows * 4) / kTogether;
  if (most_units < 1) return cudaErrorInvalidValue;
  const int each = std::min((units + traits.multiprocessors - 1) / traits.multiprocessors, most_units);
  const int grid = (units + each - 1) / each;
  return launch_kernel(multiply_single<kDepth, kGated, kWidth>, traits, static_cast<unsigned>(grid), kThreads,
                       SharedLayout(task.blocks, each * kTogether, kRingBytes).bytes, stream, task, Runs(units, grid), gate);
}

bool fits(const DeviceTraits& traits, int blocks, int tiles, int ring_bytes) noexcept {
  return SharedLayout(blocks, tiles, ring_bytes).bytes + kReservedBytes <= traits.shared_bytes;
}

template <int kDepth, bool kGated>
Status launch_single(const DeviceTraits& traits, const ProductTask& task, Stream stream, GateKind gate = {}) {
  constexpr int kTogether = kGated ? 2 : 1;
  if (task.blocks * kBlockColumns <= columns_of_halves(kNarrowHalves) &&
      fits(traits, task.blocks, kTogether, ring_bytes(kDepth, Width::kNarrow)))
    return launch_of_width<kDepth, kGated, Width::kNarrow>(traits, task, stream, gate);
  if (fits(traits, task.blocks, kTogether, ring_bytes(kDepth, Width::kWide)))
    return launch_of_width<kDepth, kGated, Width::kWide>(traits, task, stream, gate);
  return launch_of_width<kDepth, kGated, Width::kWideShortRing>(traits, task, stream, gate);
}

}  // namespace

bool fits_single(const DeviceTraits& traits, int depth, int64_t columns, int tiles) noexcept {
  return columns <= columns_of_halves(kWideHalves) &&
         fits(traits, blocks_of(columns), tiles, ring_bytes(depth, Width::kWideShortRing));
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
