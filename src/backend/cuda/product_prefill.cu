// Owns the product of packed matrices with many tokens on Hopper: warpgroup instructions with the weights in registers, expanded
// there, and the activations in shared memory.
//
// A block has two warpgroups of 64 rows each, so 8 tiles, one tile of tokens, and a third one of which one thread brings the
// activations. A warpgroup always has a run of four instructions (64 inputs) on the tensor cores while it expands the weights of
// the next one.
#include <algorithm>
#include <array>

#include "backend/cuda/activation.cuh"
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/operands.cuh"
#include "backend/cuda/warpgroup.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kWarps = 8, kThreads = (kWarps + 4) * kLanes;
// Of the 168 registers a thread begins with, those that only copy leave most to those that multiply.
constexpr int kRegistersToCopy = 24, kRegistersToMultiply = 240;
constexpr int kBlockChunks = kBlockColumns / kChunkColumns;
// Items of weights are brought to the second-level cache so many before the one at hand.
constexpr int kItemsAhead = 2;

// Of gated products: what a block has of each matrix, and the floats between tokens in shared memory, so that lanes of a warp write
// to different banks.
constexpr int kGatedTiles = kWarps / 2, kGatedRows = kGatedTiles * kTileRows, kGatedStride = kGatedRows + 4;

struct PrefillTask {
  ProductTask product;
  Operands operands;
  GateKind gate;  // of gated products
};

// A stage holds a chunk, 64 inputs, of a tile of tokens.
constexpr int stage_bytes(int tile_tokens) { return tile_tokens * kChunkBytes; }
constexpr int stages_of(int tile_tokens) { return tile_tokens == 256 ? 6 : 8; }
// Stages begin at multiples of 1,024 bytes, which the swizzle asks for.
constexpr int shared_bytes(int tile_tokens) { return stages_of(tile_tokens) * (stage_bytes(tile_tokens) + 16) + 1024; }

#ifdef TRIT_WARPGROUP_MMA
// A ring of stages, and the barriers that say when a stage is full and when it is empty again.
template <int kTileTokens>
struct Ring {
  static constexpr int kStages = stages_of(kTileTokens), kStageBytes = stage_bytes(kTileTokens);
  uint32_t stages, full, empty;
  int stage = 0;
  uint32_t phase = 0;

  TRIT_DEVICE explicit Ring(const uint8_t* memory) {
    stages = (shared_address(memory) + 1023u) & ~1023u;
    full = stages + kStages * kStageBytes;
    empty = full + kStages * 8;
  }
  TRIT_DEVICE void init() const {
    for (int i = 0; i < kStages; ++i) init_barrier(full + i * 8, 1), init_barrier(empty + i * 8, kWarps);
    publish_barriers();
  }
  TRIT_DEVICE void advance() {
    if (++stage == kStages) stage = 0, phase ^= 1u;
  }
  // The stage so many, one at most, before the one at hand.
  TRIT_DEVICE int before(int stages) const { return stage - stages + (stage < stages ? kStages : 0); }
};

// Half of a block's weights, 64 inputs, as the A operands of four instructions.
struct HalfBlock {
  uint32_t rows[8], rows8[8];

  template <int kDepth, int kHalf>
  TRIT_DEVICE void decode(const uint32_t* words, uint32_t scale, uint32_t scale8) {
    uint32_t all[16], all8[16];  // what is not used is not computed
    decode_scaled<kDepth>(words, scale, all);
    decode_scaled<kDepth>(words + half_words(kDepth), scale8, all8);
#pragma unroll
    for (int i = 0; i < 8; ++i) rows[i] = all[8 * kHalf + i], rows8[i] = all8[8 * kHalf + i];
  }

  template <int kSums>
  TRIT_DEVICE void multiply(float (&sums)[kSums], uint32_t stage) const {
    const uint64_t operands = operand_descriptor(stage);
    warpgroup_fence();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      warpgroup_mma(sums, rows[2 * i], rows8[2 * i], rows[2 * i + 1], rows8[2 * i + 1], further(operands, i * 32), true);
    }
    warpgroup_commit();
  }
};

// The weights of a tile, block by block.
template <int kDepth>
struct TileReader {
  static constexpr int kWords = block_words(kDepth), kItemBlocks = item_blocks(kDepth);
  const uint8_t *at, *end;  // the next block, and the tile's end
  int block = 0, blocks, lane;
  uint32_t words[kWords], scales[kScaleWords] = {};

  TRIT_DEVICE TileReader(const uint8_t* tile, int blocks, int lane)
      : at(tile), end(tile + tile_bytes(kDepth, blocks)), blocks(blocks), lane(lane) {}

  // The next block's words and, where an item begins, its scale codes.
  TRIT_DEVICE void load() {
    if (block >= blocks) return;
    load_run<kWords>(words, at, lane);
    const int in_item = block % kItemBlocks;
    if (in_item == 0 && lane == 0) {
      constexpr auto kItemBytes = static_cast<int64_t>(item_bytes(kDepth));
      const int64_t left = end - at - kItemsAhead * kItemBytes;
      if (left > 0) bring_to_l2(at + kItemsAhead * kItemBytes, static_cast<uint32_t>(left < kItemBytes ? left : kItemBytes));
    }
    if (kDepth > 0 && in_item == 0) {
      load_scale_words(scales, at + static_cast<size_t>(min(kItemBlocks, blocks - block)) * block_bytes(kDepth), lane);
    }
    ++block;
    at += block_bytes(kDepth);
    if (in_item == kItemBlocks - 1) at += scale_words(kDepth) * kLanes * 4;
  }

  // Of the block loaded last: its scale codes begin at bit 0.
  TRIT_DEVICE uint32_t scale_codes() const {
    const int bit = 4 * kScaleCodeBits * ((block - 1) % kItemBlocks);
    const uint32_t low = bit < 32 ? scales[0] : scales[1], high = bit < 32 ? scales[1] : scales[2];
    return __funnelshift_r(low, high, static_cast<uint32_t>(bit));
  }
};

#endif  // TRIT_WARPGROUP_MMA

// The warps that multiply meet.
TRIT_DEVICE void multiplying_barrier() { asm volatile("bar.sync 1, %0;" ::"n"(kWarps * kLanes) : "memory"); }

// A lane's sums of a tile: of token 8n + 2·quad + i, row lane / 4 + 8·upper at 4n + 2·upper + i.
template <int kTileTokens>
struct TileSums {
  static constexpr int kCount = kTileTokens / 2;
  float values[kCount];

  TRIT_DEVICE static int token(int index, int quad) { return index / 4 * 8 + 2 * quad + index % 2; }

  // What the sums lack; rows beyond the part get anything.
  TRIT_DEVICE void complete(const TaskPart& part, int row, const float* factors, float unit, int quad) {
    float biases[2] = {};
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      if (part.bias != nullptr && row + 8 * upper < part.rows) biases[upper] = __ldg(part.bias + row + 8 * upper);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = fmaf(values[i], factors[token(i, quad)] * unit, biases[i % 4 / 2]);
  }

  // Puts the sums into shared memory, [token][row], the lane's rows at `row` and eight further on.
  TRIT_DEVICE void put(float* to, int row, int quad) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[token(i, quad) * kGatedStride + row + i % 4 / 2 * 8] = values[i];
  }

  // Writes the row of the part, `out` at its first token. What stands there is asked for sixteen tokens at a time, without a branch
  // between: each answer takes as long as hundreds of instructions.
  TRIT_DEVICE void store(int upper, bool adds, float* out, int64_t stride, int last_token, int quad) const {
    constexpr int kTogether = 16;
#pragma unroll
    for (int begin = 0; begin < kCount / 2; begin += kTogether) {
      const auto index = [&](int i) { return (begin + i) / 2 * 4 + 2 * upper + i % 2; };
      float before[kTogether] = {};
      if (adds) {
#pragma unroll
        for (int i = 0; i < kTogether; ++i) before[i] = __ldcg(out + min(token(index(i), quad), last_token) * stride);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int to = token(index(i), quad);
        if (to <= last_token) out[to * stride] = before[i] + values[index(i)];
      }
    }
  }
};

// Writes the gated products of a block, from the sums of both matrices in shared memory. A loop rather than code for each of a
// thread's sums: the activation would fill the instruction cache.
template <int kTileTokens>
TRIT_DEVICE void store_gated(const TaskPart& part, GateKind gate, const float* values, int first_row, int first_token, int tokens,
                             int warp, int lane) {
  static_assert(kGatedRows == 2 * kLanes);
  const int row = first_row + 2 * lane, count = min(kTileTokens, tokens - first_token);
  float* const out = part.out + first_token * part.out_stride + row;
#pragma unroll 4
  for (int token = warp; token < count; token += kWarps) {
    const float2 gates = *reinterpret_cast<const float2*>(values + token * kGatedStride + 2 * lane);
    const float2 ups = *reinterpret_cast<const float2*>(values + (kTileTokens + token) * kGatedStride + 2 * lane);
    const float products[2] = {activation(gate, gates.x) * ups.x, activation(gate, gates.y) * ups.y};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (row + i < part.rows) out[token * part.out_stride + i] = products[i];
    }
  }
}

// Which matrix a warp works on, and on which tile of it. Gated: one warpgroup has the gate's rows, the other one the same rows of
// the second matrix.
template <bool kGated>
TRIT_DEVICE int part_of_warp(const ProductTask& product, int row_block, int warp, int& tile) {
  if constexpr (kGated) {
    tile = row_block * kGatedTiles + warp % kGatedTiles;
    return warp / kGatedTiles;
  }
  const int number = min(row_block * kWarps + warp, product.tiles);
  const int part = part_of_tile(product, number);
  tile = number - product.parts[part].first_tile;
  return part;
}

template <int kDepth, int kTileTokens, bool kGated>
__global__ void __launch_bounds__(kThreads, 1) multiply_prefill(const __grid_constant__ PrefillTask task) {
#ifdef TRIT_WARPGROUP_MMA
  extern __shared__ uint8_t memory[];
  __shared__ float factors[kTileTokens];
  const ProductTask& product = task.product;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  // Blocks that follow each other have the same rows and other tokens, so that weights are read from memory once.
  const int token_tile = static_cast<int>(blockIdx.x), row_block = static_cast<int>(blockIdx.y);
  const int chunks = product.blocks * kBlockChunks;
  Ring<kTileTokens> ring(memory);
  using Stages = Ring<kTileTokens>;
  allow_next_kernel();
  if (thread == 0) ring.init();
  __syncthreads();

  if (warp >= kWarps) {
    give_registers<kRegistersToCopy>();
    if (thread == kWarps * kLanes) {
      wait_for_previous_kernel();
      const uint8_t* from = task.operands.tiles + static_cast<int64_t>(token_tile) * chunks * Stages::kStageBytes;
      for (int chunk = 0; chunk < chunks; ++chunk, ring.advance(), from += Stages::kStageBytes) {
        if (chunk >= Stages::kStages) wait_for_phase(ring.empty + ring.stage * 8, ring.phase ^ 1u);
        bulk_copy(ring.stages + ring.stage * Stages::kStageBytes, from, Stages::kStageBytes, ring.full + ring.stage * 8);
      }
    }
    return;
  }
  take_registers<kRegistersToMultiply>();

  int tile = 0;
  const TaskPart& part = product.parts[part_of_warp<kGated>(product, row_block, warp, tile)];
  const bool working = tile * kTileRows < part.rows;
  TileReader<kDepth> reader(part.tiles + (working ? static_cast<uint64_t>(tile) * product.tile_bytes : 0), product.blocks, lane);
  reader.load();
  HalfSteps steps;
  if constexpr (kDepth > 0) steps.load(part.steps, lane);
  uint32_t scale = 0, scale8 = 0;
  const auto load_block_scales = [&] {
    if constexpr (kDepth > 0) find_scales(reader.scale_codes(), steps.pair, scale, scale8);
  };
  wait_for_previous_kernel();
  if (thread < kTileTokens) factors[thread] = __ldcg(task.operands.factors + token_tile * kTileTokens + thread);
  const auto wait_for_chunk = [&] {
    wait_for_phase(ring.full + ring.stage * 8, ring.phase);
    return ring.stages + ring.stage * Stages::kStageBytes;
  };
  TileSums<kTileTokens> sums{};
  // Dense weights are multiplied out of the registers into which they are loaded. The compiler does not see that instructions in
  // flight still read those, so none may be in flight when the next ones are asked for (scripts/registers_in_flight.py).
  constexpr int kInFlight = kDepth == 0 ? 0 : 1;
  const auto release = [&] {
    warpgroup_wait<kInFlight>();
    if (lane == 0) arrive(ring.empty + ring.before(kInFlight) * 8);
  };
  HalfBlock first, second;
  load_block_scales();
  first.decode<kDepth, 0>(reader.words, scale, scale8);
#pragma unroll 1
  for (int block = 0; block < product.blocks; ++block) {
    first.multiply(sums.values, wait_for_chunk());
    if (kInFlight == 0 || block > 0) release();
    ring.advance();
    second.decode<kDepth, 1>(reader.words, scale, scale8);
    if (kDepth > 0) reader.load();
    second.multiply(sums.values, wait_for_chunk());
    release();
    if (kDepth == 0) reader.load();
    ring.advance();
    load_block_scales();
    first.decode<kDepth, 0>(reader.words, scale, scale8);  // after the last block: of that one again, not used
  }
  warpgroup_wait();

  multiplying_barrier();  // the factors are there, and the stages are not needed any more
  const int row = tile * kTileRows + lane / 4, quad = lane % 4;
  sums.complete(part, row, factors, part.unit * steps.unit, quad);
  if constexpr (kGated) {
    static_assert(2 * kTileTokens * kGatedStride * sizeof(float) <= Stages::kStages * Stages::kStageBytes);
    auto* const values = reinterpret_cast<float*>(memory);
    sums.put(values + warp / kGatedTiles * kTileTokens * kGatedStride, warp % kGatedTiles * kTileRows + lane / 4, quad);
    multiplying_barrier();
    store_gated<kTileTokens>(product.parts[0], task.gate, values, row_block * kGatedRows, token_tile * kTileTokens,
                             task.operands.tokens, warp, lane);
    return;
  }
  if (!working) return;
  const int last_token = task.operands.tokens - token_tile * kTileTokens - 1;
  float* const out = part.out + static_cast<int64_t>(token_tile) * kTileTokens * part.out_stride + row;
#pragma unroll
  for (int upper = 0; upper < 2; ++upper) {
    if (row + 8 * upper < part.rows) sums.store(upper, part.adds, out + 8 * upper, part.out_stride, last_token, quad);
  }
#endif
}

int row_blocks_of(const ProductTask& product) { return (product.tiles + kWarps - 1) / kWarps; }

template <int kDepth, int kTileTokens>
Status launch_prefill(const DeviceTraits& traits, const PrefillTask& task, bool gated, Stream stream) {
  const auto kernel = gated ? multiply_prefill<kDepth, kTileTokens, true> : multiply_prefill<kDepth, kTileTokens, false>;
  const dim3 grid(static_cast<unsigned>(task.operands.tile_count()), static_cast<unsigned>(row_blocks_of(task.product)));
  return launch_kernel(kernel, traits, grid, kThreads, shared_bytes(kTileTokens), stream, task);
}

template <int kDepth>
Status launch_depth(const DeviceTraits& traits, const PrefillTask& task, bool gated, Stream stream) {
  switch (task.operands.tile_tokens) {
    case 64: return launch_prefill<kDepth, 64>(traits, task, gated, stream);
    case 128: return launch_prefill<kDepth, 128>(traits, task, gated, stream);
    default: return launch_prefill<kDepth, 256>(traits, task, gated, stream);
  }
}

Status launch(const DeviceTraits& traits, int depth, const PrefillTask& task, bool gated, Stream stream) {
  switch (depth) {
    case 0: return launch_depth<0>(traits, task, gated, stream);
    case 1: return launch_depth<1>(traits, task, gated, stream);
    case 2: return launch_depth<2>(traits, task, gated, stream);
    case 3: return launch_depth<3>(traits, task, gated, stream);
    default: return launch_depth<4>(traits, task, gated, stream);
  }
}

}  // namespace

int prefill_tile_tokens(const DeviceTraits& traits, const ProductTask& product, int tokens) noexcept {
  // Time of a block, measured on an H200: small tiles wait for their weights to be expanded.
  struct Choice {
    int tokens;
    double time;
  };
  constexpr std::array<Choice, 3> kChoices{{{256, 4.0}, {128, 2.5}, {64, 1.9}}};
  int best = 0;
  double least = 0.0;
  for (const Choice& choice : kChoices) {
    const int blocks = row_blocks_of(product) * ((tokens + choice.tokens - 1) / choice.tokens);
    const double time = choice.time * ((blocks + traits.multiprocessors - 1) / traits.multiprocessors);
    if (best == 0 || time < least) best = choice.tokens, least = time;
  }
  return best;
}

Status multiply_many_tokens(const DeviceTraits& traits, int depth, const ProductTask& product, const Operands& operands,
                            Stream stream) {
  return launch(traits, depth, {product, operands, {}}, false, stream);
}

Status multiply_many_gated(const DeviceTraits& traits, int depth, GateKind kind, const ProductTask& product,
                           const Operands& operands, Stream stream) {
  return launch(traits, depth, {product, operands, kind}, true, stream);
}

}  // namespace tritllm::cuda
