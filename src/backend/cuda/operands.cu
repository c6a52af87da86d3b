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
  squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) squares += scratch[i], largest = max(largest, __float_as_uint(scratch[kWarps + i]));
}

template <int kDepth>
__global__ void __launch_bounds__(kThreads) prepare(const __grid_constant__ OperandTask task) {
  extern __shared__ __align__(16) float row[];  // the token's values, normed but for the common factor; then the gains
  __shared__ float scratch[2 * kWarps];
  const Operands& operands = task.operands;
  const int token = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int columns = operands.chunks * kChunkColumns;
  const bool inside = token < operands.tokens;
  allow_next_kernel();
  // Gains do not depend on the kernel before.
  const bool normed = task.input.gain != nullptr;
  float* const gains = row + columns;
  for (int column = 4 * thread; normed && column < columns; column += 4 * kThreads) {
    const int count = max(0, min(4, task.columns - column));
    copy_async_part(shared_address(gains + column), count > 0 ? task.input.gain + column : task.input.gain, 4 * count);
  }
  wait_for_previous_kernel();

  float squares = 0.0f;
  uint32_t largest = 0;
  const float* from = task.input.rows + static_cast<int64_t>(inside ? token : 0) * task.input.stride;
  for (int column = 4 * thread; column < columns; column += 4 * kThreads) {
    const int count = inside ? max(0, min(4, task.columns - column)) : 0;
    copy_async_part(shared_address(row + column), count > 0 ? from + column : from, 4 * count);
  }
  commit_copies();
  wait_for_copies<0>();
  for (int column = 4 * thread; column < columns; column += 4 * kThreads) {
#pragma unroll
    for (int i = column; i < column + 4; ++i) {
      float value = row[i];
      if (normed) {
        squares += value * value;
        value *= gains[i];
        row[i] = value;
      }
      largest = max(largest, __float_as_uint(value) & 0x7fffffffu);
    }
  }
  reduce_block(squares, largest, scratch);  // its barrier covers `row`
  float norm = 1.0f;
  if (normed) {
    norm = rsqrtf(squares / static_cast<float>(task.columns) + task.input.epsilon);
    largest = __float_as_uint(__uint_as_float(largest) * norm);
  }
  const float scale = operand_scale(largest), factor = norm * scale;
  if (thread == 0) operands.factors[token] = 1.0f / scale;

  const int tile = token / operands.tile_tokens, token_of_tile = token % operands.tile_tokens;
  uint8_t* to =
      operands.tiles + (static_cast<int64_t>(tile) * operands.chunks * operands.tile_tokens + token_of_tile) * kChunkBytes;
  for (int piece = thread; piece < columns / 8; piece += kThreads) {
    const int block = piece / (kBlockColumns / 8), in_block = piece % (kBlockColumns / 8);
    const int step = in_block / 2, second = in_block % 2, slot = 2 * step + second;
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // lane i of the quad: groups i and 4 + i
      const float* values = row + block * kBlockColumns + i * kGroupColumns + slot;
      const float power = factor / static_cast<float>(field_power(kDepth, slot));
      words[i] = as_word(__floats2half2_rn(values[0] * power, values[4 * kGroupColumns] * power));
    }
    const int chunk = block * (kBlockColumns / kChunkColumns) + in_block / 8;
    const int place = (in_block % 8) ^ (token_of_tile % 8);
    *reinterpret_cast<uint4*>(to + static_cast<int64_t>(chunk) * operands.tile_tokens * kChunkBytes + place * kPieceBytes) =
        make_uint4(words[0], words[1], words[2], words[3]);
  }
}

}  // namespace

Status prepare_operands(const DeviceTraits& traits, int depth, const Input& input, int columns, const Operands& operands,
                        Stream stream) {
  const OperandTask task{input, operands, columns};
  const auto launch = [&](auto kernel) {
    return launch_kernel(kernel, traits, static_cast<unsigned>(operands.tile_count() * operands.tile_tokens), kThreads,
                         (input.gain != nullptr ? 2 : 1) * operands.chunks * kChunkColumns * static_cast<int>(sizeof(float)),
                         stream, task);
  };
  switch (depth) {
    case 0: return launch(prepare<0>);
    case 1: return launch(prepare<1>);
    case 2: return launch(prepare<2>);
    case 3: return launch(prepare<3>);
    default: return launch(prepare<4>);
  }
}

}  // namespace tritllm::cuda
