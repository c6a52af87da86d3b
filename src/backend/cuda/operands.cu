// One block a token: norm, scale to a power of two, and the order that the tensor cores want.
#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/operands.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / kLanes;

struct OperandTask {
  Input input;
  Operands operands;
  int columns;
};

// All threads get the result; `scratch` has room for two numbers a warp.
TRIT_DEVICE void reduce_block(float& squares, uint32_t& largest, float* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes, warp = static_cast<int>(threadIdx.x) / kLanes;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, distance);
  largest = __reduce_max_sync(0xffffffffu, largest);
  if (lane == 0) scratch[warp] = squares, scratch[kWarps + warp] = __uint_as_float(largest);
  __syncthreads();
  // Every warp adds up all warps' parts in the same order.
  squares = scratch[lane % kWarps];
#pragma unroll
  for (int distance = kWarps / 2; distance > 0; distance /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, distance);
  largest = __reduce_max_sync(0xffffffffu, __float_as_uint(scratch[kWarps + lane % kWarps]));
}

// A thread's pieces are all of one slot: piece p is slot p % 16 of the eight groups of block p / 16, and 16 bytes of the operands.
// It holds up to kHeld of them in registers between the two passes, over the sizes and over the operands, and reads any further
// ones twice.
constexpr int kBlockPieces = kBlockColumns / 8;
static_assert(kThreads % kBlockPieces == 0 && kBlockPieces == kGroupColumns);
// Columns whose pieces fit into so many registers' worth.
constexpr int columns_held(int held) { return held * kThreads * 8; }

TRIT_DEVICE void load_piece(float (&values)[kBlockGroups], const float* row, int piece, int columns) {
  const int first = piece / kBlockPieces * kBlockColumns + piece % kBlockPieces;
#pragma unroll
  for (int group = 0; group < kBlockGroups; ++group) {
    const int column = first + group * kGroupColumns;
    values[group] = column < columns ? __ldcg(row + column) : 0.0f;
  }
}

template <int kDepth, int kHeld>
__global__ void __launch_bounds__(kThreads) prepare(const __grid_constant__ OperandTask task) {
  __shared__ float scratch[2 * kWarps];
  const Operands& operands = task.operands;
  const int token = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int pieces = operands.chunks * (kChunkColumns / 8), slot = thread % kBlockPieces;
  // Tokens that fill up the last tile are rows of no columns.
  const int columns = token < operands.tokens ? task.columns : 0;
  const float* const row = task.input.rows + static_cast<int64_t>(token) * task.input.stride;
  const bool normed = task.input.gain != nullptr;
  allow_next_kernel();

  // Gains do not depend on the kernel before.
  float gains[kHeld][kBlockGroups], values[kHeld][kBlockGroups];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (normed && thread + i * kThreads < pieces) load_piece(gains[i], task.input.gain, thread + i * kThreads, columns);
  }
  wait_for_previous_kernel();
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (thread + i * kThreads < pieces) load_piece(values[i], row, thread + i * kThreads, columns);
  }

  float squares = 0.0f;
  uint32_t largest = 0;
  const auto examine = [&](float(&piece)[kBlockGroups], const float(&piece_gains)[kBlockGroups]) {
#pragma unroll
    for (int group = 0; group < kBlockGroups; ++group) {
      if (normed) {
        squares = fmaf(piece[group], piece[group], squares);
        piece[group] *= piece_gains[group];
      }
      largest = max(largest, __float_as_uint(piece[group]) & 0x7fffffffu);
    }
  };
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (thread + i * kThreads < pieces) examine(values[i], gains[i]);
  }
  const auto load_further = [&](float(&piece)[kBlockGroups], float(&piece_gains)[kBlockGroups], int index) {
    load_piece(piece, row, index, columns);
    if (normed) load_piece(piece_gains, task.input.gain, index, columns);
  };
#pragma unroll 1
  for (int index = thread + kHeld * kThreads; index < pieces; index += kThreads) {
    float piece[kBlockGroups], piece_gains[kBlockGroups];
    load_further(piece, piece_gains, index);
    examine(piece, piece_gains);
  }
  reduce_block(squares, largest, scratch);
  float norm = 1.0f;
  if (normed) {
    norm = rsqrtf(squares / static_cast<float>(task.columns) + task.input.epsilon);
    largest = __float_as_uint(__uint_as_float(largest) * norm);
  }
  const float scale = operand_scale(largest);
  if (thread == 0) operands.factors[token] = 1.0f / scale;

  const int tile = token / operands.tile_tokens, token_of_tile = token % operands.tile_tokens;
  const int place = (slot % 8) ^ (token_of_tile % 8);
  uint8_t* const to = operands.tiles +
                      (static_cast<int64_t>(tile) * operands.chunks * operands.tile_tokens + token_of_tile) * kChunkBytes +
                      place * kPieceBytes;
  const float factor = norm * scale * (1.0f / static_cast<float>(field_power(kDepth, slot)));
  const auto store = [&](const float(&piece)[kBlockGroups], int index) {
    uint32_t words[kBlockGroups / 2];
#pragma unroll
    for (int i = 0; i < kBlockGroups / 2; ++i) {  // lane i of the quad: groups i and 4 + i
      words[i] = as_word(__floats2half2_rn(piece[i] * factor, piece[i + kBlockGroups / 2] * factor));
    }
    const int chunk = index / kBlockPieces * (kBlockColumns / kChunkColumns) + slot / 8;
    *reinterpret_cast<uint4*>(to + static_cast<int64_t>(chunk) * operands.tile_tokens * kChunkBytes) =
        make_uint4(words[0], words[1], words[2], words[3]);
  };
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (thread + i * kThreads < pieces) store(values[i], thread + i * kThreads);
  }
#pragma unroll 1
  for (int index = thread + kHeld * kThreads; index < pieces; index += kThreads) {
    float piece[kBlockGroups], piece_gains[kBlockGroups];
    load_further(piece, piece_gains, index);
#pragma unroll
    for (int group = 0; normed && group < kBlockGroups; ++group) piece[group] *= piece_gains[group];
    store(piece, index);
  }
}

template <int kDepth>
Status launch_prepare(const DeviceTraits& traits, const OperandTask& task, Stream stream) {
  const auto launch = [&](auto kernel) {
    return launch_kernel(kernel, traits, static_cast<unsigned>(task.operands.tile_count() * task.operands.tile_tokens), kThreads, 0,
                         stream, task);
  };
  return task.columns <= columns_held(1) ? launch(prepare<kDepth, 1>) : launch(prepare<kDepth, 4>);
}

}  // namespace

Status prepare_operands(const DeviceTraits& traits, int depth, const Input& input, int columns, const Operands& operands,
                        Stream stream) {
  const OperandTask task{input, operands, columns};
  switch (depth) {
    case 0: return launch_prepare<0>(traits, task, stream);
    case 1: return launch_prepare<1>(traits, task, stream);
    case 2: return launch_prepare<2>(traits, task, stream);
    case 3: return launch_prepare<3>(traits, task, stream);
    default: return launch_prepare<4>(traits, task, stream);
  }
}

}  // namespace tritllm::cuda
