// Owns the form in which activations of several tokens lie for the tensor cores, and the kernel that brings them into it
// (operands.cu). Does not own what a single token becomes: product_single.cu prepares it inside the product.
//
// Tokens are cut into tiles of `tile_tokens`, and the inputs into chunks of 64. [tile][chunk][token][64 halves]: 128 bytes a token,
// in which piece p of 16 bytes lies at p XOR (token mod 8), so that both ldmatrix and wgmma (128-byte swizzle) read it without bank
// conflicts. Inputs stand in the order of column_of_place(), divided by the power of their field. Behind the tiles each token has
// the factor that its sums lack (launch.h, operand_bytes).
#pragma once

#include "backend/cuda/layout.h"
#include "backend/cuda/product.cuh"

namespace tritllm::cuda {

inline constexpr int kChunkColumns = 64, kChunkBytes = kChunkColumns * 2, kPieceBytes = 16;

struct Operands {
  uint8_t* tiles;
  float* factors;  // [tokens rounded up to tiles]
  int tokens, tile_tokens, chunks;

  __host__ __device__ int tile_count() const { return (tokens + tile_tokens - 1) / tile_tokens; }
};

inline Operands place_operands(const Workspace& workspace, int tokens, int tile_tokens, int blocks) {
  Operands operands{static_cast<uint8_t*>(workspace.operands), nullptr, tokens, tile_tokens,
                    blocks * kBlockColumns / kChunkColumns};
  operands.factors =
      reinterpret_cast<float*>(operands.tiles + static_cast<size_t>(operands.tile_count()) * static_cast<size_t>(tile_tokens) *
                                                    static_cast<size_t>(operands.chunks) * kChunkBytes);
  return operands;
}

Status prepare_operands(const DeviceTraits& traits, int depth, const Input& input, int columns, const Operands& operands,
                        Stream stream);

// product_batch.cu: up to 32 tokens in a tile.
int batch_tile_tokens(const DeviceTraits& traits, int tokens) noexcept;
Status multiply_several_tokens(const DeviceTraits& traits, int depth, const ProductTask& task, const Operands& operands,
                               const Workspace& workspace, Stream stream);

// product_cluster.cu: the same on Hopper.
Status multiply_in_clusters(const DeviceTraits& traits, int depth, const ProductTask& task, const Operands& operands,
                            Stream stream);

// product_prefill.cu: tiles of 64, 128 or 256 tokens.
inline constexpr int kLargestTokenTile = 256;
int prefill_tile_tokens(const DeviceTraits& traits, const ProductTask& task, int tokens) noexcept;
Status multiply_many_tokens(const DeviceTraits& traits, int depth, const ProductTask& task, const Operands& operands,
                            Stream stream);
// The task's two parts have as many rows; the first one's output gets the gated product.
Status multiply_many_gated(const DeviceTraits& traits, int depth, GateKind kind, const ProductTask& task, const Operands& operands,
                           Stream stream);

}  // namespace tritllm::cuda
