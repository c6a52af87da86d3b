// Kernels that do nothing but read memory: what a product could reach at best.
#include "cuda/ceilings.h"

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/ptx.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kThreads = 512, kInFlight = 8;

__global__ void __launch_bounds__(kThreads) read_all(const uint4* from, size_t count, uint32_t* out) {
  allow_next_kernel();
  uint32_t sum = 0;
  const size_t stride = static_cast<size_t>(gridDim.x) * kThreads;
  for (size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += stride * kInFlight) {
    uint32_t words[kInFlight][4] = {};
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) stream4(words[j], from + i + j * stride, i + j * stride < count);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) sum ^= words[j][0] ^ words[j][1] ^ words[j][2] ^ words[j][3];
  }
  wait_for_previous_kernel();
  if (sum == 0x12345677u) *out = sum;  // keeps the loads
}

}  // namespace

Status read_memory(const DeviceTraits& traits, const void* from, size_t bytes, uint32_t* out, Stream stream) {
  return launch_kernel(read_all, traits, static_cast<unsigned>(4 * traits.multiprocessors), kThreads, 0, stream,
                       static_cast<const uint4*>(from), bytes / 16, out);
}

}  // namespace tritllm::cuda
