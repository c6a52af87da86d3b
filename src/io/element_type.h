// Owns the list of ways in which a file may store a tensor's elements: the types of safetensors and the block formats of GGUF
// that tritllm reads. Does not own their conversion (source_tensor.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tritllm {

// clang-format off
enum class ElementType : uint8_t {
  kBool, kU8, kI8, kU16, kI16, kU32, kI32, kU64, kI64,       // safetensors integers
  kF8E4M3, kF8E5M2, kF16, kBF16, kF32, kF64, kC64,           // safetensors floating point
  kScaledF8E4M3, kScaledI8,                                   // safetensors, with scales in another tensor (WeightScales)
  kScaledTritRows,                                            // the same: a byte has a trit of each of four rows
  kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kIQ4_NL, kMXFP4,         // GGUF, blocks of 32 elements
  kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_XS, kTQ1_0, kTQ2_0, // GGUF, blocks of 256 elements
};
// clang-format on

// A tensor's last dimension is stored as whole blocks; plain types are blocks of one element.
struct ElementLayout {
  std::string_view name;  // safetensors' dtype, or GGUF's type name
  uint32_t block_elements;
  uint32_t block_bytes;
};

ElementLayout layout_of(ElementType type) noexcept;

// The type with this safetensors dtype name, or nothing where the name is not one that tritllm knows (sub-byte types included).
std::optional<ElementType> element_type_from_safetensors(std::string_view name) noexcept;

// Types that convert to float32: without loss, but for F64 and for products with scales, which are rounded. FP8 and integers alone
// mean nothing without their scales.
bool is_weight_type(ElementType type) noexcept;

// A format that has itself thrown bits away: its weights lie on a lattice, and quantising them again adds error to error.
bool is_quantised_type(ElementType type) noexcept;

// The type of a tensor whose elements are multiplied by scales, or nothing where tritllm reads no such tensors.
std::optional<ElementType> scaled_type(ElementType stored) noexcept;

}  // namespace tritllm
