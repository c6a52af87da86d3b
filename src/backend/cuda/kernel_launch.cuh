// Owns how a kernel is launched: with dependent launch where the card has it, and with the shared memory that it asks for.
#pragma once

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "backend/cuda/launch.h"

namespace tritllm::cuda {

// `cluster`: blocks of a row of the grid that share memory; 1 on cards that have no clusters.
template <typename... Parameters, typename... Arguments>
Status launch_clusters(void (*kernel)(Parameters...), const DeviceTraits& traits, unsigned cluster, dim3 grid, int threads,
                       int shared_bytes, Stream stream, Arguments&&... arguments) {
  constexpr int kAlwaysAllowed = 40 << 10;  // 48 KB less what kernels have of fixed size
  if (shared_bytes > kAlwaysAllowed) {
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (status != cudaSuccess) return status;
  }
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (traits.dependent_launch()) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {cluster, 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = static_cast<unsigned>(threads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// How many clusters of so many blocks run at the same time on the current device; 0 where none does. Asked once for each kind.
template <typename... Parameters>
Status clusters_that_fit(void (*kernel)(Parameters...), unsigned cluster, int threads, int shared_bytes, int& count) {
  static std::mutex mutex;
  static std::map<std::tuple<const void*, unsigned, int>, int> known;
  const std::lock_guard lock(mutex);
  const auto [found, fresh] = known.try_emplace({reinterpret_cast<const void*>(kernel), cluster, shared_bytes}, 0);
  if (fresh) {
    cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (status != cudaSuccess) return status;
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {cluster, 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(cluster);
    config.blockDim = static_cast<unsigned>(threads);
    config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
    config.attrs = &attribute;
    config.numAttrs = 1;
    status = cudaOccupancyMaxActiveClusters(&found->second, kernel, &config);
    if (status != cudaSuccess) {
      known.erase(found);
      return status;
    }
  }
  count = found->second;
  return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
Status launch_kernel(void (*kernel)(Parameters...), const DeviceTraits& traits, dim3 grid, int threads, int shared_bytes,
                     Stream stream, Arguments&&... arguments) {
  return launch_clusters(kernel, traits, 1, grid, threads, shared_bytes, stream, std::forward<Arguments>(arguments)...);
}

}  // namespace tritllm::cuda
