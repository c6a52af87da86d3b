// Owns the arithmetic of GGUF's block formats: from the bytes of whole blocks to float32, bit-equal to the reference
// dequantisation of the gguf package. Does not own which elements of a tensor are wanted (source_tensor.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "io/element_type.h"

namespace tritllm {

// Writes out.size() elements, which must be whole blocks, from the blocks that start at `blocks`. Needs is_quantised_type(type).
void dequantise_blocks(ElementType type, const std::byte* blocks, std::span<float> out) noexcept;

}  // namespace tritllm
