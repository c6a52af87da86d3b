// Owns what the product kernels share: the task as a kernel gets it, the way from a tile's number to its matrix, and the last step
// from a sum to the output. Does not own the kernels (product_single.cu, product_batch.cu, product_prefill.cu) nor the choice among
// them (product.cu).
#pragma once

#include "backend/cuda/decode.cuh"
#include "backend/cuda/launch.h"

namespace tritllm::cuda {

// One matrix of a launch. Tiles of all matrices are numbered through.
struct TaskPart {
  const uint8_t* tiles;
  const float* steps;
  const float* bias;
  float* out;
  int64_t out_stride;
  int32_t first_tile, rows;
  float unit;
  bool adds;
};

struct ProductTask {
  TaskPart parts[kMaxProducts];
  Input input;
  int32_t part_count, tiles, columns, blocks, items;
  uint64_t tile_bytes;
};

inline ProductTask make_task(const Input& input, const Product* products, int count) {
  ProductTask task{};
  const Matrix& first = products[0].weights;
  task.input = input;
  task.part_count = count;
  task.columns = static_cast<int32_t>(first.columns);
  task.blocks = blocks_of(first.columns);
  task.items = items_of(first.depth, task.blocks);
  task.tile_bytes = tile_bytes(first.depth, task.blocks);
  for (int i = 0; i < count; ++i) {
    const Product& product = products[i];
    const Matrix& matrix = product.weights;
    task.parts[i] = {
        static_cast<const uint8_t*>(matrix.tiles), matrix.steps, product.bias, product.out, product.out_stride, task.tiles,
        static_cast<int32_t>(matrix.rows),         matrix.unit,  product.adds};
    task.tiles += static_cast<int32_t>(tiles_of(matrix.rows));
  }
  return task;
}

// Work dealt out to `count` blocks in consecutive runs whose lengths differ by one at most. A division on the host, none in
// kernels.
struct Runs {
  int32_t length, longer;  // the first `longer` runs have one more

  Runs(int total, int count) : length(total / count), longer(total % count) {}
  __host__ __device__ int begin(int run) const { return run * length + (run < longer ? run : longer); }
};

// Which matrix a tile belongs to.
TRIT_DEVICE int part_of_tile(const ProductTask& task, int tile) {
  int part = 0;
#pragma unroll
  for (int i = 1; i < kMaxProducts; ++i) part += i < task.part_count && tile >= task.parts[i].first_tile ? 1 : 0;
  return part;
}

TRIT_DEVICE const uint8_t* tile_address(const ProductTask& task, int tile) {
  const TaskPart& part = task.parts[part_of_tile(task, tile)];
  return part.tiles + static_cast<uint64_t>(tile - part.first_tile) * task.tile_bytes;
}

// The step tables of all parts, spread over the lanes.
struct StepTables {
  float steps[kMaxProducts];

  TRIT_DEVICE void load(const ProductTask& task, int lane) {
#pragma unroll
    for (int i = 0; i < kMaxProducts; ++i) steps[i] = i < task.part_count ? __ldg(task.parts[i].steps + lane) : 0.0f;
  }
  TRIT_DEVICE float of_part(int part) const { return part == 0 ? steps[0] : part == 1 ? steps[1] : steps[2]; }
};

// A matrix's steps as halves, brought to a common power of two so that none is subnormal; `unit` is what the sums then lack.
struct HalfSteps {
  uint32_t pair = 0;
  float unit = 1.0f;

  TRIT_DEVICE void load(const float* steps, int lane) {
    const float step = __ldg(steps + lane);
    const int exponent = static_cast<int>(__reduce_max_sync(0xffffffffu, __float_as_uint(step)) >> 23);
    const bool ordinary = exponent > 20 && exponent < 240;
    unit = ordinary ? __uint_as_float(static_cast<uint32_t>(exponent - 3) << 23) : 1.0f;
    pair = both_halves(step / unit);
  }
};

// The product of a row of a part. `sum` lacks the unit of a dense matrix only.
TRIT_DEVICE float completed(const TaskPart& part, int row, float sum) {
  sum *= part.unit;
  return part.bias != nullptr ? sum + __ldg(part.bias + row) : sum;
}

// Writes one element of the output.
TRIT_DEVICE void finish(const ProductTask& task, int tile, int row_of_tile, int64_t token, float sum) {
  const TaskPart& part = task.parts[part_of_tile(task, tile)];
  const int row = (tile - part.first_tile) * kTileRows + row_of_tile;
  if (row >= part.rows) return;
  sum = completed(part, row, sum);
  float* out = part.out + token * part.out_stride + row;
  *out = part.adds ? *out + sum : sum;
}

// Activations are brought to this power of two before they become halves, so that neither large nor small rows lose precision:
// the largest magnitude of a row is in [2^11, 2^12).
inline constexpr int kOperandExponent = 11;

// The power of two that does so for a row whose largest magnitude has these bits; 1 for zeros, infinities and NaN.
TRIT_DEVICE float operand_scale(uint32_t largest_bits) {
  const int exponent = static_cast<int>(largest_bits >> 23);
  // Beyond 2^-100 the power itself stays a normal number; such a row is zero for every purpose.
  return exponent < 27 || exponent == 255 ? 1.0f
                                          : __uint_as_float(static_cast<uint32_t>(2 * 127 + kOperandExponent - exponent) << 23);
}

// product_single.cu
bool fits_single(const DeviceTraits& traits, int depth, int64_t columns, int tiles = 1) noexcept;
Status multiply_single_token(const DeviceTraits& traits, int depth, const ProductTask& task, Stream stream);
// The task's two parts have as many rows; the first one's output gets the gated product.
Status multiply_single_gated(const DeviceTraits& traits, int depth, GateKind kind, const ProductTask& task, Stream stream);

}  // namespace tritllm::cuda
