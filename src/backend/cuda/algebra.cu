// Kernels of calibration: rounding with feedback, and what its sums and factors need beside products.
#include <cuda_runtime.h>

#include <cmath>

#include "backend/cuda/algebra_launch.h"

namespace tritllm::cuda {
namespace {

constexpr int kGroup = 16, kScales = 27, kWarps = 8, kLanes = 32;
constexpr int kBlockGroups = kRoundedColumns / kGroup;
// Lanes beside those of the 27 scales: one sees the rounding that stands, one rounds to zeros.
constexpr int kPresentLane = 27, kZeroLane = 28;
constexpr unsigned kAllLanes = 0xffffffffu;

// What a warp keeps of its row.
struct RowWork {
  float values[kRoundedColumns];  // targets, or the gradient
  float decoded[kRoundedColumns];
  float targets[kGroup], changes[kGroup];
};

// Of one block of columns, for all rows: products of a change in one column with the others of the block.
struct BlockShared {
  float matrix[kRoundedColumns][kRoundedColumns];
  float inverse[kBlockGroups][kGroup][kGroup], feedback[kBlockGroups][kGroup][kGroup];
  float variances[kRoundedColumns];
  RowWork rows[kWarps];
};

// A rounding of 16 targets by one lane: `inverse` and `step` are those of its scale, or the values stand already (`present`).
struct LaneRounding {
  float codes[kGroup], errors[kGroup], values[kGroup];
  float sum;
};

__device__ void round_lane(const float* targets, const float (*feedback)[kGroup], int feedback_stride, const float* variances,
                           float inverse, float step, float limit, const float* present, LaneRounding& out) {
  float left[kGroup];
#pragma unroll
  for (int i = 0; i < kGroup; ++i) left[i] = targets[i];
  out.sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    out.codes[i] = rintf(fminf(fmaxf(left[i] * inverse, -limit), limit));
    out.values[i] = present != nullptr ? present[i] : out.codes[i] * step;
    out.errors[i] = left[i] - out.values[i];
    out.sum += variances[i] * out.errors[i] * out.errors[i];
    const float* const row = &feedback[0][0] + i * feedback_stride;
#pragma unroll
    for (int j = i + 1; j < kGroup; ++j) left[j] += out.errors[i] * row[j];
  }
}

// The lane of least sum; equal sums go to the rounding that stands, then to the lowest scale code. kZeroLane where none is finite.
__device__ int least_lane(float sum, int lane, bool takes_part) {
  int key = lane == kPresentLane ? -1 : lane;
  if (!takes_part || !(sum < INFINITY)) sum = INFINITY, key = kZeroLane;
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, sum, distance);
    const int other_key = __shfl_xor_sync(kAllLanes, key, distance);
    if (other < sum || (other == sum && other_key < key)) sum = other, key = other_key;
  }
  return key < 0 ? kPresentLane : key;
}

__device__ void store_codes(const LaneRounding& rounding, int8_t* codes) {
  alignas(16) int8_t packed[kGroup];
#pragma unroll
  for (int i = 0; i < kGroup; ++i) packed[i] = static_cast<int8_t>(rounding.codes[i]);
  *reinterpret_cast<int4*>(codes) = *reinterpret_cast<const int4*>(packed);
}

__device__ void load_square(const float* from, int64_t stride, int64_t first, int width, float (*to)[kRoundedColumns]) {
  for (int i = threadIdx.x; i < width * width; i += blockDim.x) {
    to[i / width][i % width] = from[(first + i / width) * stride + first + i % width];
  }
}

// Adds what a change of the group's 16 columns makes in the block's columns from `begin` on.
__device__ void spread(const float* changes, const float (*matrix)[kRoundedColumns], int group, int begin, int width,
                       float* values) {
  for (int c = begin + static_cast<int>(threadIdx.x % kLanes); c < width; c += kLanes) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) sum += changes[i] * matrix[group * kGroup + i][c];
    values[c] += sum;
  }
}

__global__ void __launch_bounds__(kWarps* kLanes)
    round_block(RoundingRows rows, RoundingFactorsView factors, RoundingCodebook codebook, int64_t first, int width) {
  extern __shared__ float4 memory[];
  BlockShared& shared = *reinterpret_cast<BlockShared*>(memory);
  load_square(factors.feedback, rows.columns, first, width, shared.matrix);
  for (int i = threadIdx.x; i < width; i += blockDim.x) shared.variances[i] = factors.variances[first + i];
  __syncthreads();

  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (row >= rows.rows) return;
  RowWork& work = shared.rows[warp];
  const int64_t at = row * rows.columns + first;
  for (int c = lane; c < width; c += kLanes) work.values[c] = rows.work[at + c];
  const float scale = lane < kScales ? codebook.scales[lane] : 0.0f;
  const float inverse = scale != 0.0f ? codebook.largest_code / scale : 0.0f, step = scale / codebook.largest_code;
  __syncwarp();
  for (int group = 0; group < width / kGroup; ++group) {
    LaneRounding rounding;
    round_lane(work.values + group * kGroup,
               reinterpret_cast<const float(*)[kGroup]>(&shared.matrix[group * kGroup][group * kGroup]), kRoundedColumns,
               shared.variances + group * kGroup, inverse, step, codebook.largest_code, nullptr, rounding);
    const int best = least_lane(rounding.sum, lane, scale != 0.0f);
    __syncwarp();
    if (lane == best) {
      store_codes(rounding, rows.codes + at + group * kGroup);
      rows.scale_codes[(at + group * kGroup) / kGroup] = static_cast<uint8_t>(best < kScales ? best : 0);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        work.changes[i] = rounding.errors[i];
        work.targets[i] = rounding.values[i];
      }
    }
    __syncwarp();
    if (lane < kGroup) {
      rows.decoded[at + group * kGroup + lane] = work.targets[lane];
      rows.changes[row * kRoundedColumns + group * kGroup + lane] = work.changes[lane];
    }
    spread(work.changes, shared.matrix, group, (group + 1) * kGroup, width, work.values);
    __syncwarp();
  }
}

__global__ void __launch_bounds__(kWarps* kLanes)
    improve_block(RoundingRows rows, RoundingFactorsView factors, RoundingCodebook codebook, int64_t first, int width) {
  extern __shared__ float4 memory[];
  BlockShared& shared = *reinterpret_cast<BlockShared*>(memory);
  load_square(factors.moments, rows.columns, first, width, shared.matrix);
  for (int i = threadIdx.x; i < width * kGroup; i += blockDim.x) {
    (&shared.inverse[0][0][0])[i] = factors.group_inverse[first * kGroup + i];
    (&shared.feedback[0][0][0])[i] = factors.group_feedback[first * kGroup + i];
  }
  for (int i = threadIdx.x; i < width; i += blockDim.x) shared.variances[i] = factors.group_variances[first + i];
  __syncthreads();

  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (row >= rows.rows) return;
  RowWork& work = shared.rows[warp];
  const int64_t at = row * rows.columns + first;
  for (int c = lane; c < width; c += kLanes) {
    work.values[c] = rows.gradient[at + c];
    work.decoded[c] = rows.decoded[at + c];
  }
  const float scale = lane < kScales ? codebook.scales[lane] : 0.0f;
  const float inverse = scale != 0.0f ? codebook.largest_code / scale : 0.0f, step = scale / codebook.largest_code;
  __syncwarp();
  for (int group = 0; group < width / kGroup; ++group) {
    float* const decoded = work.decoded + group * kGroup;
    if (lane < kGroup) {
      float best = decoded[lane];
#pragma unroll
      for (int i = 0; i < kGroup; ++i) best += work.values[group * kGroup + i] * shared.inverse[group][i][lane];
      work.targets[lane] = best;
    }
    __syncwarp();
    LaneRounding rounding;
    round_lane(work.targets, shared.feedback[group], kGroup, shared.variances + group * kGroup, inverse, step,
               codebook.largest_code, lane == kPresentLane ? decoded : nullptr, rounding);
    const int best = least_lane(rounding.sum, lane, scale != 0.0f || lane == kPresentLane);
    __syncwarp();
    const bool stays = best >= kScales;
    float* const changes = rows.changes + row * kRoundedColumns + group * kGroup;
    if (stays) {
      if (lane < kGroup) changes[lane] = 0.0f;
      continue;
    }
    if (lane == best) {
      store_codes(rounding, rows.codes + at + group * kGroup);
      rows.scale_codes[(at + group * kGroup) / kGroup] = static_cast<uint8_t>(best);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        work.changes[i] = decoded[i] - rounding.values[i];
        decoded[i] = rounding.values[i];
      }
    }
    __syncwarp();
    if (lane < kGroup) {
      rows.decoded[at + group * kGroup + lane] = decoded[lane];
      changes[lane] = work.changes[lane];
    }
    spread(work.changes, shared.matrix, group, 0, width, work.values);
    __syncwarp();
  }
}

__global__ void lacking(RoundingRows rows) {
  const int64_t count = rows.rows * rows.columns;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x)
    rows.work[i] = rows.targets[i] - rows.decoded[i];
}

// A warp for each row.
__global__ void finish_rows(RoundingRows rows) {
  const int lane = threadIdx.x % kLanes;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kLanes;
  if (row >= rows.rows) return;
  double error = 0;
  for (int64_t i = row * rows.columns + lane; i < (row + 1) * rows.columns; i += kLanes)
    error += (static_cast<double>(rows.targets[i]) - static_cast<double>(rows.decoded[i])) * static_cast<double>(rows.gradient[i]);
  for (int distance = kLanes / 2; distance > 0; distance /= 2) error += __shfl_xor_sync(kAllLanes, error, distance);
  if (lane == 0) rows.errors[row] = error;
  for (int64_t group = lane; group < rows.columns / kGroup; group += kLanes) {
    const int64_t at = row * (rows.columns / kGroup) + group;
    const int4 codes = reinterpret_cast<const int4*>(rows.codes)[at];
    if ((codes.x | codes.y | codes.z | codes.w) == 0) rows.scale_codes[at] = 0;
  }
}

__global__ void weigh(const float* x, const float* weights, int64_t width, float* out) {
  const int64_t token = blockIdx.x;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) out[token * width + i] = weights[token] * x[token * width + i];
}

__global__ void add_to_sums(const float* values, int64_t count, double* sums) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x)
    sums[i] += static_cast<double>(values[i]);
}

__global__ void reverse(double* values, int64_t count) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count / 2;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const double first = values[i];
    values[i] = values[count - 1 - i];
    values[count - 1 - i] = first;
  }
}

__global__ void identity(double* matrix, int64_t size) {
  const int64_t row = blockIdx.x;
  for (int64_t column = threadIdx.x; column < size; column += blockDim.x) matrix[row * size + column] = row == column ? 1.0 : 0.0;
}

constexpr int kSquare = 32, kSquareRows = 8;

// Squares of 32 × 32 through shared memory. `mirrors`: only those on and above the diagonal, and out is the matrix itself.
__global__ void across(const double* matrix, int64_t size, double* out, bool mirrors) {
  __shared__ double square[kSquare][kSquare + 1];
  if (mirrors && blockIdx.x < blockIdx.y) return;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kSquare, row = static_cast<int64_t>(blockIdx.y) * kSquare;
  for (int i = threadIdx.y; i < kSquare; i += kSquareRows) {
    if (row + i < size && column + threadIdx.x < size) square[i][threadIdx.x] = matrix[(row + i) * size + column + threadIdx.x];
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kSquare; i += kSquareRows) {
    const int64_t to_row = column + i, to_column = row + threadIdx.x;
    if (to_row >= size || to_column >= size || (mirrors && to_column >= to_row)) continue;
    out[to_row * size + to_column] = square[threadIdx.x][i];
  }
}

constexpr int kThreads = 256, kBlocks = 2048;

Status last_status() { return cudaGetLastError(); }

template <typename Kernel>
Status launch_block(Kernel kernel, const RoundingRows& rows, const RoundingFactorsView& factors, const RoundingCodebook& codebook,
                    int64_t first, Stream stream) {
  constexpr int kBytes = sizeof(BlockShared);
  if (const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      status != cudaSuccess)
    return status;
  const auto width = static_cast<int>(rows.columns - first < kRoundedColumns ? rows.columns - first : kRoundedColumns);
  kernel<<<static_cast<unsigned>((rows.rows + kWarps - 1) / kWarps), kWarps * kLanes, kBytes, stream>>>(rows, factors, codebook,
                                                                                                        first, width);
  return last_status();
}

dim3 squares(int64_t size) {
  const auto count = static_cast<unsigned>((size + kSquare - 1) / kSquare);
  return {count, count};
}

}  // namespace

Status launch_round_block(const RoundingRows& rows, const RoundingFactorsView& factors, const RoundingCodebook& codebook,
                          int64_t first, Stream stream) {
  return launch_block(round_block, rows, factors, codebook, first, stream);
}

Status launch_improve_block(const RoundingRows& rows, const RoundingFactorsView& factors, const RoundingCodebook& codebook,
                            int64_t first, Stream stream) {
  return launch_block(improve_block, rows, factors, codebook, first, stream);
}

Status launch_lacking(const RoundingRows& rows, Stream stream) {
  lacking<<<kBlocks, kThreads, 0, stream>>>(rows);
  return last_status();
}

Status launch_finish_rows(const RoundingRows& rows, Stream stream) {
  finish_rows<<<static_cast<unsigned>((rows.rows * kLanes + kThreads - 1) / kThreads), kThreads, 0, stream>>>(rows);
  return last_status();
}

Status launch_weigh(const float* x, const float* weights, int64_t tokens, int64_t width, float* out, Stream stream) {
  weigh<<<static_cast<unsigned>(tokens), kThreads, 0, stream>>>(x, weights, width, out);
  return last_status();
}

Status launch_add_to_sums(const float* values, int64_t count, double* sums, Stream stream) {
  add_to_sums<<<kBlocks, kThreads, 0, stream>>>(values, count, sums);
  return last_status();
}

Status launch_mirror(double* matrix, int64_t size, Stream stream) {
  across<<<squares(size), dim3(kSquare, kSquareRows), 0, stream>>>(matrix, size, matrix, true);
  return last_status();
}

Status launch_reverse(double* values, int64_t count, Stream stream) {
  reverse<<<kBlocks, kThreads, 0, stream>>>(values, count);
  return last_status();
}

Status launch_identity(double* matrix, int64_t size, Stream stream) {
  identity<<<static_cast<unsigned>(size), kThreads, 0, stream>>>(matrix, size);
  return last_status();
}

Status launch_across(const double* matrix, int64_t size, double* out, Stream stream) {
  across<<<squares(size), dim3(kSquare, kSquareRows), 0, stream>>>(matrix, size, out, false);
  return last_status();
}

}  // namespace tritllm::cuda
