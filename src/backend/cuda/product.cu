// Which kernel a product takes: one token, a few, or many.
#include <cuda_runtime.h>

#include "backend/cuda/operands.cuh"

namespace tritllm::cuda {
namespace {

// From this many tokens on, tiles of 64 tokens and more beat tiles of 32 (H200, docs/lab/2026-11-cuda.md).
constexpr int kPrefillTokens = 161;

}  // namespace

Status device_traits(int device, DeviceTraits& traits) {
  const auto read = [&](cudaDeviceAttr attribute, int& value) { return cudaDeviceGetAttribute(&value, attribute, device); };
  int major = 0, minor = 0;
  for (const cudaError_t status : {read(cudaDevAttrComputeCapabilityMajor, major), read(cudaDevAttrComputeCapabilityMinor, minor),
                                   read(cudaDevAttrMultiProcessorCount, traits.multiprocessors),
                                   read(cudaDevAttrMaxSharedMemoryPerBlockOptin, traits.shared_bytes)}) {
    if (status != cudaSuccess) return status;
  }
  traits.compute_capability = 10 * major + minor;
#ifdef TRITLLM_CUDA_SM_90A
  traits.warpgroup_mma = traits.compute_capability == 90;
#endif
  return cudaSuccess;
}

size_t operand_bytes(int64_t tokens, int64_t columns) noexcept {
  const auto padded = static_cast<size_t>((tokens + kLargestTokenTile - 1) / kLargestTokenTile * kLargestTokenTile);
  return padded * (static_cast<size_t>(blocks_of(columns)) * kBlockColumns * sizeof(uint16_t) + sizeof(float));
}

Status multiply(const DeviceTraits& traits, const Input& input, const Product* products, int count, const Workspace& workspace,
                Stream stream, ProductKernel kernel) {
  const ProductTask task = make_task(input, products, count);
  const int depth = products[0].weights.depth;
  if (kernel == ProductKernel::kAutomatic) {
    kernel = input.tokens == 1 && fits_single(traits, depth, task.columns) ? ProductKernel::kSingle
             : !traits.warpgroup_mma                                       ? ProductKernel::kBatch
             : input.tokens >= kPrefillTokens                              ? ProductKernel::kPrefill
                                                                           : ProductKernel::kCluster;
  }
  if (kernel == ProductKernel::kSingle) return multiply_single_token(traits, depth, task, stream);
  const bool many = kernel == ProductKernel::kPrefill;
  const int tile_tokens = many ? prefill_tile_tokens(traits, task, input.tokens) : batch_tile_tokens(traits, input.tokens);
  const Operands operands = place_operands(workspace, input.tokens, tile_tokens, task.blocks);
  if (const Status status = prepare_operands(traits, depth, input, task.columns, operands, stream); status != cudaSuccess)
    return status;
  if (kernel == ProductKernel::kCluster) return multiply_in_clusters(traits, depth, task, operands, stream);
  return many ? multiply_many_tokens(traits, depth, task, operands, stream)
              : multiply_several_tokens(traits, depth, task, operands, workspace, stream);
}

bool fits_gated(const DeviceTraits& traits, const Input& input, const Product& gate, const Product& up) noexcept {
  if (gate.weights.depth != up.weights.depth || gate.weights.rows != up.weights.rows ||
      gate.weights.columns != up.weights.columns || gate.adds || up.adds) {
    return false;
  }
  return input.tokens == 1 ? fits_single(traits, gate.weights.depth, gate.weights.columns, 2)
                           : traits.warpgroup_mma && input.tokens >= kPrefillTokens;
}

Status multiply_gated(const DeviceTraits& traits, GateKind kind, const Input& input, const Product& gate, const Product& up,
                      const Workspace& workspace, Stream stream) {
  const Product products[] = {gate, up};
  const ProductTask task = make_task(input, products, 2);
  const int depth = gate.weights.depth;
  if (input.tokens == 1) return multiply_single_gated(traits, depth, kind, task, stream);
  const Operands operands = place_operands(workspace, input.tokens, prefill_tile_tokens(traits, task, input.tokens), task.blocks);
  if (const Status status = prepare_operands(traits, depth, input, task.columns, operands, stream); status != cudaSuccess)
    return status;
  return multiply_many_gated(traits, depth, kind, task, operands, stream);
}

}  // namespace tritllm::cuda
