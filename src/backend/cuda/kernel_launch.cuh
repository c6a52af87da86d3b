// Owns how a kernel is launched: with dependent launch where the card has it, and with the shared memory that it asks for.
#pragma once

#include <cuda_runtime.h>

#include "backend/cuda/launch.h"

namespace tritllm::cuda {

template <typename... Parameters, typename... Arguments>
Status launch_kernel(void (*kernel)(Parameters...), const DeviceTraits& traits, dim3 grid, int threads, int shared_bytes,
                     Stream stream, Arguments&&... arguments) {
  constexpr int kAlwaysAllowed = 40 << 10;  // 48 KB less what kernels have of fixed size
  if (shared_bytes > kAlwaysAllowed) {
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (status != cudaSuccess) return status;
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = static_cast<unsigned>(threads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = traits.dependent_launch() ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

}  // namespace tritllm::cuda
