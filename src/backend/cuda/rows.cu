// Operations on rows that are no products: embedding, gate, norm and sum, gathering, soft cap, the greedy choice, moments.
#include "backend/cuda/activation.cuh"
#include "backend/cuda/decode.cuh"
#include "backend/cuda/kernel_launch.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kLanes;

__global__ void resolve_tokens_kernel(uint32_t* tokens, int count, const uint32_t* chosen) {
  constexpr uint32_t kChosen = uint32_t{1} << 31;
  wait_for_previous_kernel();
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i < count && (tokens[i] & kChosen) != 0) tokens[i] = chosen[tokens[i] & ~kChosen];
}

// One block a token; a thread takes two groups of the row, as a lane holds them.
template <int kDepth>
__global__ void embed_kernel(Matrix table, StepView step, float scale, RowsView out) {
  allow_next_kernel();
  wait_for_previous_kernel();
  const int64_t token = step.tokens[blockIdx.x];
  float* row = out.data + static_cast<int64_t>(blockIdx.x) * out.stride;
  if (token >= table.rows) return;  // tokens are checked before; never read beyond
  const int blocks = blocks_of(table.columns), in_tile = static_cast<int>(token % kTileRows);
  const uint8_t* tile =
      static_cast<const uint8_t*>(table.tiles) + static_cast<uint64_t>(token / kTileRows) * tile_bytes(kDepth, blocks);
  for (int place = static_cast<int>(threadIdx.x); place < blocks * 4; place += kThreads) {
    constexpr int kHalfWords = half_words(kDepth), kItemBlocks = item_blocks(kDepth);
    const int block = place / 4, t = place % 4, lane = in_tile % 8 * 4 + t, upper = in_tile / 8;
    const uint8_t* item = tile + static_cast<size_t>(block / kItemBlocks) * item_bytes(kDepth);
    const uint8_t* at = item + static_cast<size_t>(block % kItemBlocks) * block_bytes(kDepth);
    uint32_t words[kHalfWords], fields[16];
#pragma unroll
    for (int i = 0; i < kHalfWords; ++i) {
      words[i] = *reinterpret_cast<const uint32_t*>(at + word_offset(2 * kHalfWords, upper * kHalfWords + i, lane));
    }
    Decoder<kDepth>::fields(words, fields);
    float steps[2] = {table.unit, table.unit};
    if constexpr (kDepth > 0) {
      const int first = block / kItemBlocks * kItemBlocks, in_item = min(kItemBlocks, blocks - first);
      const uint8_t* codes = item + static_cast<size_t>(in_item) * block_bytes(kDepth) + lane * 4;
      for (int half = 0; half < 2; ++half) {
        const int bit = kScaleCodeBits * ((block - first) * 4 + upper * 2 + half);
        const uint32_t low = *reinterpret_cast<const uint32_t*>(codes + bit / 32 * kLanes * 4);
        const uint32_t high =
            bit / 32 + 1 < kScaleWords ? *reinterpret_cast<const uint32_t*>(codes + (bit / 32 + 1) * kLanes * 4) : 0;
        steps[half] = table.steps[__funnelshift_r(low, high, static_cast<uint32_t>(bit % 32)) & 31u];
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = block * kBlockColumns + (t + 4 * half) * kGroupColumns;
#pragma unroll
      for (int slot = 0; slot < kGroupColumns; ++slot) {
        const half2 pair = as_pair(fields[slot]);
        const float field = half == 0 ? __low2float(pair) : __high2float(pair);
        const float code = (field - field_base(kDepth, slot)) * (1.0f / field_power(kDepth, slot));
        if (column + slot < table.columns) row[column + slot] = code * steps[half] * scale;
      }
    }
  }
}

__global__ void embed_floats_kernel(const float* table, int64_t rows, StepView step, float scale, RowsView out) {
  allow_next_kernel();
  wait_for_previous_kernel();
  const int64_t token = step.tokens[blockIdx.x];
  if (token >= rows) return;
  float* row = out.data + static_cast<int64_t>(blockIdx.x) * out.stride;
  for (int i = static_cast<int>(threadIdx.x); i < out.width; i += kThreads) row[i] = table[token * out.width + i] * scale;
}

template <GateKind kKind>
__global__ void __launch_bounds__(kThreads) gate_kernel(RowsView gate, RowsView up, RowsView out) {
  allow_next_kernel();
  wait_for_previous_kernel();
  const int column = 4 * (static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x));
  const int64_t row = blockIdx.y;
  if (column >= out.width) return;
  // Strides are multiples of four: a vector never leaves its row, and what lies beyond the width is never read.
  const float4 g = *reinterpret_cast<const float4*>(gate.data + row * gate.stride + column);
  const float4 u = *reinterpret_cast<const float4*>(up.data + row * up.stride + column);
  *reinterpret_cast<float4*>(out.data + row * out.stride + column) = make_float4(
      activation(kKind, g.x) * u.x, activation(kKind, g.y) * u.y, activation(kKind, g.z) * u.z, activation(kKind, g.w) * u.w);
}

TRIT_DEVICE float sum_of_block(float value, float* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes, warp = static_cast<int>(threadIdx.x) / kLanes;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  value = 0.0f;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) value += scratch[i];
  return value;
}

__global__ void __launch_bounds__(kThreads) add_normed_kernel(RowsView x, const float* gain, float epsilon, RowsView to) {
  __shared__ float scratch[kWarps];
  allow_next_kernel();
  wait_for_previous_kernel();
  const float* from = x.data + static_cast<int64_t>(blockIdx.x) * x.stride;
  float* out = to.data + static_cast<int64_t>(blockIdx.x) * to.stride;
  float squares = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < x.width; i += kThreads) squares += from[i] * from[i];
  const float factor = rsqrtf(sum_of_block(squares, scratch) / static_cast<float>(x.width) + epsilon);
  for (int i = static_cast<int>(threadIdx.x); i < x.width; i += kThreads) out[i] += from[i] * factor * __ldg(gain + i);
}

__global__ void __launch_bounds__(kThreads) round_rows_kernel(RowsView x, const float* gain, float epsilon, RowsView out) {
  __shared__ float scratch[kWarps];
  __shared__ uint32_t largest_of[kWarps];
  allow_next_kernel();
  wait_for_previous_kernel();
  const float* from = x.data + static_cast<int64_t>(blockIdx.x) * x.stride;
  float* to = out.data + static_cast<int64_t>(blockIdx.x) * out.stride;
  const int thread = static_cast<int>(threadIdx.x);
  float factor = 1.0f;
  if (gain != nullptr) {
    float squares = 0.0f;
    for (int i = thread; i < x.width; i += kThreads) squares += from[i] * from[i];
    factor = rsqrtf(sum_of_block(squares, scratch) / static_cast<float>(x.width) + epsilon);
  }
  const auto value = [&](int i) { return gain != nullptr ? from[i] * factor * __ldg(gain + i) : from[i]; };
  uint32_t largest = __float_as_uint(1e-5f);  // magnitudes order as their bits do
  for (int i = thread; i < x.width; i += kThreads) largest = max(largest, __float_as_uint(value(i)) & 0x7fffffffu);
  largest = __reduce_max_sync(0xffffffffu, largest);
  if (thread % kLanes == 0) largest_of[thread / kLanes] = largest;
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) largest = max(largest, largest_of[warp]);
  const float scale = 127.0f / __uint_as_float(largest);
  for (int i = thread; i < x.width; i += kThreads) to[i] = rintf(value(i) * scale) / scale;
}

__global__ void gather_kernel(RowsView x, StepView step, int first, RowsView out) {
  allow_next_kernel();
  wait_for_previous_kernel();
  const float* from = x.data + static_cast<int64_t>(step.scored[first + static_cast<int>(blockIdx.x)]) * x.stride;
  float* to = out.data + static_cast<int64_t>(blockIdx.x) * out.stride;
  for (int i = static_cast<int>(threadIdx.x); i < x.width; i += kThreads) to[i] = from[i];
}

__global__ void soft_cap_kernel(RowsView x, float cap) {
  allow_next_kernel();
  wait_for_previous_kernel();
  const int column = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (column >= x.width) return;
  float* at = x.data + static_cast<int64_t>(blockIdx.y) * x.stride + column;
  *at = cap * tanhf(*at / cap);
}

constexpr int kChooseThreads = 1024;

// Logits as numbers that order as they do; NaN above all, so that it is found.
TRIT_DEVICE uint64_t choice_key(float logit, int token) {
  const uint32_t bits = __float_as_uint(logit);
  const uint32_t ordered = logit != logit ? 0xffffffffu : (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(token));  // of equal ones the lowest token
}

__global__ void __launch_bounds__(kChooseThreads) choose_kernel(RowsView logits, uint32_t* chosen) {
  __shared__ uint64_t best[kChooseThreads / kLanes];
  allow_next_kernel();
  wait_for_previous_kernel();
  const int thread = static_cast<int>(threadIdx.x);
  const float* row = logits.data + static_cast<int64_t>(blockIdx.x) * logits.stride;
  uint64_t top = 0;
#pragma unroll 8
  for (int token = thread; token < logits.width; token += kChooseThreads) {
    // 0 and −0 are equal logits.
    const uint64_t key = choice_key(row[token] + 0.0f, token);
    top = key > top ? key : top;
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const uint64_t other = __shfl_xor_sync(0xffffffffu, top, distance);
    top = other > top ? other : top;
  }
  if (thread % kLanes == 0) best[thread / kLanes] = top;
  __syncthreads();
  if (thread >= kLanes) return;
  top = best[thread];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const uint64_t other = __shfl_xor_sync(0xffffffffu, top, distance);
    top = other > top ? other : top;
  }
  const uint64_t infinite = choice_key(__uint_as_float(0x7f800000u), 0) >> 32,
                 none = choice_key(__uint_as_float(0xff800000u), 0) >> 32;
  const bool possible = top >> 32 < infinite && top >> 32 > none;
  if (thread == 0) chosen[blockIdx.x] = possible ? 0xffffffffu - static_cast<uint32_t>(top) : kNoChoice;
}

__global__ void squares_kernel(RowsView x, double* sums) {
  wait_for_previous_kernel();
  const int column = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (column >= x.width) return;
  double sum = 0.0;
  for (int row = 0; row < x.count; ++row) {
    const double value = x.data[row * x.stride + column];
    sum += value * value;
  }
  sums[column] += sum;
}

constexpr int kProductTile = 16;

__global__ void outer_products_kernel(RowsView x, double* sums) {
  __shared__ float left[kProductTile][kProductTile + 1], right[kProductTile][kProductTile + 1];
  wait_for_previous_kernel();
  const int tx = static_cast<int>(threadIdx.x) % kProductTile, ty = static_cast<int>(threadIdx.x) / kProductTile;
  const int i0 = static_cast<int>(blockIdx.y) * kProductTile, j0 = static_cast<int>(blockIdx.x) * kProductTile;
  double sum = 0.0;
  for (int first = 0; first < x.count; first += kProductTile) {
    const int row = first + ty;
    const float* at = x.data + row * x.stride;
    left[ty][tx] = row < x.count && i0 + tx < x.width ? at[i0 + tx] : 0.0f;
    right[ty][tx] = row < x.count && j0 + tx < x.width ? at[j0 + tx] : 0.0f;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kProductTile; ++k) sum += static_cast<double>(left[k][ty]) * static_cast<double>(right[k][tx]);
    __syncthreads();
  }
  if (i0 + ty < x.width && j0 + tx < x.width) sums[static_cast<int64_t>(i0 + ty) * x.width + j0 + tx] += sum;
}

unsigned parts(int64_t count, int size) { return static_cast<unsigned>((count + size - 1) / size); }

}  // namespace

Status resolve_tokens(const DeviceTraits& traits, uint32_t* tokens, int count, const uint32_t* chosen, Stream stream) {
  return launch_kernel(resolve_tokens_kernel, traits, parts(count, kThreads), kThreads, 0, stream, tokens, count, chosen);
}

Status embed(const DeviceTraits& traits, const Matrix& table, const float* floats, const StepView& step, float scale,
             const RowsView& out, Stream stream) {
  const dim3 grid(static_cast<unsigned>(out.count));
  if (floats != nullptr)
    return launch_kernel(embed_floats_kernel, traits, grid, kThreads, 0, stream, floats, table.rows, step, scale, out);
  const auto launch = [&](auto kernel) {
    return launch_kernel(kernel, traits, grid, kThreads, 0, stream, table, step, scale, out);
  };
  switch (table.depth) {
    case 0: return launch(embed_kernel<0>);
    case 1: return launch(embed_kernel<1>);
    case 2: return launch(embed_kernel<2>);
    case 3: return launch(embed_kernel<3>);
    default: return launch(embed_kernel<4>);
  }
}

Status gate(const DeviceTraits& traits, GateKind kind, const RowsView& gate, const RowsView& up, const RowsView& out,
            Stream stream) {
  const dim3 grid(parts(out.width, 4 * kThreads), static_cast<unsigned>(out.count));
  const auto launch = [&](auto kernel) { return launch_kernel(kernel, traits, grid, kThreads, 0, stream, gate, up, out); };
  switch (kind) {
    case GateKind::kSilu: return launch(gate_kernel<GateKind::kSilu>);
    case GateKind::kGeluTanh: return launch(gate_kernel<GateKind::kGeluTanh>);
    case GateKind::kGeluErf: return launch(gate_kernel<GateKind::kGeluErf>);
    default: return launch(gate_kernel<GateKind::kReluSquared>);
  }
}

Status add_normed(const DeviceTraits& traits, const RowsView& x, const float* gain, float epsilon, const RowsView& to,
                  Stream stream) {
  return launch_kernel(add_normed_kernel, traits, static_cast<unsigned>(x.count), kThreads, 0, stream, x, gain, epsilon, to);
}

Status round_rows(const DeviceTraits& traits, const RowsView& x, const float* gain, float epsilon, const RowsView& out,
                  Stream stream) {
  return launch_kernel(round_rows_kernel, traits, static_cast<unsigned>(x.count), kThreads, 0, stream, x, gain, epsilon, out);
}

Status gather(const DeviceTraits& traits, const RowsView& x, const StepView& step, int first, const RowsView& out, Stream stream) {
  return launch_kernel(gather_kernel, traits, static_cast<unsigned>(out.count), kThreads, 0, stream, x, step, first, out);
}

Status soft_cap(const DeviceTraits& traits, const RowsView& x, float cap, Stream stream) {
  return launch_kernel(soft_cap_kernel, traits, dim3(parts(x.width, kThreads), static_cast<unsigned>(x.count)), kThreads, 0, stream,
                       x, cap);
}

Status choose_greedily(const DeviceTraits& traits, const RowsView& logits, uint32_t* chosen, Stream stream) {
  return launch_kernel(choose_kernel, traits, static_cast<unsigned>(logits.count), kChooseThreads, 0, stream, logits, chosen);
}

Status add_squares(const DeviceTraits& traits, const RowsView& x, double* sums, Stream stream) {
  return launch_kernel(squares_kernel, traits, parts(x.width, kThreads), kThreads, 0, stream, x, sums);
}

Status add_outer_products(const DeviceTraits& traits, const RowsView& x, double* sums, Stream stream) {
  const unsigned side = parts(x.width, kProductTile);
  return launch_kernel(outer_products_kernel, traits, dim3(side, side), kProductTile * kProductTile, 0, stream, x, sums);
}

}  // namespace tritllm::cuda
