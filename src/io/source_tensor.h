// Owns one tensor of a model as it lies in a mapped file, and its conversion to float32. A tensor is data, whatever file it
// came from: the two ways in which GGUF files differ from HF folders (row order, shifted norm gains) are fields here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/element_type.h"

namespace tritllm {

// Factors of the elements of a matrix, one for each block of block_rows × block_columns. Those at the edges may be cut off.
struct WeightScales {
  ElementType type = ElementType::kF32;  // a plain floating-point type
  std::span<const std::byte> bytes;  // [⌈rows / block_rows⌉][⌈columns / block_columns⌉], of a mapped file that outlives this
  uint64_t block_rows = 1, block_columns = 1;
  float unit = 1.0f;    // multiplies every factor
  bool divide = false;  // elements are divided by the scale, not multiplied
};

struct SourceTensor {
  std::string name;             // the name that an HF folder gives it
  std::vector<uint64_t> shape;  // outermost dimension first, as in HF folders
  ElementType type;
  // Exactly the elements, row-major, of a mapped file that outlives this. kScaledTritRows: [rows / 4][columns], where bits 2k and
  // 2k + 1 belong to row k·rows / 4 + i of byte row i.
  std::span<const std::byte> bytes;
  std::string place;  // "FILE: tensor 'NAME'" as error messages name it

  // Rows of each of this many heads are stored with the two halves of every rotary pair side by side, as llama.cpp's converter
  // leaves the q and k matrices of the Llama family; 0 where rows stand in HF order.
  uint32_t interleaved_heads = 0;
  // Added to every element: −1 for the norm gains of Gemma, which llama.cpp stores as 1 + gain.
  float offset = 0.0f;
  // Of types that have them.
  WeightScales scales{};

  uint64_t elements() const noexcept;  // shape is validated, so the product fits
  uint64_t columns() const noexcept { return shape.empty() ? 1 : shape.back(); }
  uint64_t rows() const noexcept { return columns() == 0 ? 0 : elements() / columns(); }
};

// Elements [first, first + out.size()) in row-major order of the HF tensor, as float32. Needs is_weight_type(type).
void read_float32(const SourceTensor& tensor, uint64_t first, std::span<float> out);

// The stored bytes that those elements need, for release_pages(); whole rows where rows are reordered.
std::span<const std::byte> stored_bytes(const SourceTensor& tensor, uint64_t first, uint64_t count);

}  // namespace tritllm
