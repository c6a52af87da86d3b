// Owns the conversion of stored elements to float32, and which stored bytes a range of elements needs.
#include "io/source_tensor.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/checked.h"
#include "core/half.h"
#include "io/gguf_blocks.h"

namespace tritllm {
namespace {

template <typename Stored>
Stored stored_at(const std::byte* bytes, size_t index) noexcept {
  Stored value;
  std::memcpy(&value, bytes + index * sizeof(Stored), sizeof(Stored));
  return value;
}

// float_from_half without a branch, so that a loop over it vectorises: the product is computed even for infinities and NaNs,
// whose bits then come from the other arm.
float unbranched_float_from_half(uint16_t half) noexcept {
  const uint32_t sign = (uint32_t{half} & 0x8000u) << 16;
  const uint32_t magnitude = uint32_t{half} & 0x7fffu;
  const uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f);
  const uint32_t special = 0x7f800000u | ((magnitude & 0x3ffu) << 13);
  const uint32_t is_special = 0u - static_cast<uint32_t>(magnitude >= 0x7c00u);
  return std::bit_cast<float>(sign | (is_special & special) | (~is_special & finite));
}

void read_plain(ElementType type, const std::byte* bytes, std::span<float> out) noexcept {
  const size_t count = out.size();
  float* const values = out.data();
  switch (type) {
    case ElementType::kF32:
      if (count != 0) std::memcpy(values, bytes, count * sizeof(float));
      return;
    case ElementType::kBF16:
      for (size_t i = 0; i < count; ++i) values[i] = float_from_bfloat16(stored_at<uint16_t>(bytes, i));
      return;
    case ElementType::kF16:
      for (size_t i = 0; i < count; ++i) values[i] = unbranched_float_from_half(stored_at<uint16_t>(bytes, i));
      return;
    case ElementType::kF64:
      for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(stored_at<double>(bytes, i));
      return;
    case ElementType::kScaledF8E4M3:
      for (size_t i = 0; i < count; ++i) values[i] = float_from_float8(stored_at<uint8_t>(bytes, i));
      return;
    case ElementType::kScaledI8:
      for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(stored_at<int8_t>(bytes, i));
      return;
    default: return;
  }
}

// Elements that may start and end inside a block: those two blocks are decoded aside.
void read_quantised(ElementType type, const std::byte* bytes, uint64_t first, std::span<float> out) noexcept {
  const ElementLayout layout = layout_of(type);
  std::array<float, 256> aside;
  const auto block = std::span(aside).first(layout.block_elements);
  while (!out.empty()) {
    const std::byte* const source = bytes + first / layout.block_elements * layout.block_bytes;
    const size_t skipped = first % layout.block_elements;
    size_t count = out.size() / layout.block_elements * layout.block_elements;
    if (skipped == 0 && count != 0) {
      dequantise_blocks(type, source, out.first(count));
    } else {
      dequantise_blocks(type, source, block);
      count = std::min<size_t>(layout.block_elements - skipped, out.size());
      std::copy_n(block.begin() + static_cast<std::ptrdiff_t>(skipped), count, out.begin());
    }
    first += count;
    out = out.subspan(count);
  }
}

// Four rows that are rows / 4 apart share a row of bytes: trit + 1 in two bits each.
void read_trit_rows(const SourceTensor& tensor, uint64_t first, std::span<float> out) noexcept {
  const uint64_t columns = tensor.columns(), byte_rows = tensor.bytes.size() / columns;
  while (!out.empty()) {
    const uint64_t row = first / columns, column = first % columns;
    const auto count = static_cast<size_t>(std::min<uint64_t>(columns - column, out.size()));
    const std::byte* const bytes = tensor.bytes.data() + row % byte_rows * columns + column;
    const auto shift = static_cast<int>(row / byte_rows * 2);
    for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(std::to_integer<int>(bytes[i] >> shift) & 3) - 1.0f;
    first += count;
    out = out.subspan(count);
  }
}

// Elements by their position in the file, without row order or offset.
void read_stored(const SourceTensor& tensor, uint64_t first, std::span<float> out) noexcept {
  const ElementLayout layout = layout_of(tensor.type);
  if (tensor.type == ElementType::kScaledTritRows) return read_trit_rows(tensor, first, out);
  if (layout.block_elements > 1) return read_quantised(tensor.type, tensor.bytes.data(), first, out);
  read_plain(tensor.type, tensor.bytes.data() + first * layout.block_bytes, out);
}

// How the rows of a tensor with interleaved heads lie in the file. A vector (the bias of such a matrix) has rows of one element.
struct RowOrder {
  uint64_t row_elements;
  uint64_t head_rows;

  explicit RowOrder(const SourceTensor& tensor)
      : row_elements(tensor.shape.size() > 1 ? tensor.columns() : 1),
        head_rows(tensor.elements() / row_elements / tensor.interleaved_heads) {}

  // HF keeps the first halves of a head's rotary pairs together, then the second halves; the file has pair after pair.
  uint64_t stored_row(uint64_t row) const noexcept {
    const uint64_t in_head = row % head_rows;
    const uint64_t half = head_rows / 2;
    return row - in_head + in_head % half * 2 + in_head / half;
  }
};

void read_interleaved(const SourceTensor& tensor, uint64_t first, std::span<float> out) noexcept {
  const RowOrder order(tensor);
  while (!out.empty()) {
    const uint64_t row = first / order.row_elements;
    const uint64_t column = first % order.row_elements;
    const auto count = static_cast<size_t>(std::min<uint64_t>(order.row_elements - column, out.size()));
    read_stored(tensor, order.stored_row(row) * order.row_elements + column, out.first(count));
    first += count;
    out = out.subspan(count);
  }
}

}  // namespace

uint64_t SourceTensor::elements() const noexcept { return checked_product(shape).value_or(0); }

namespace {

// Multiplies elements of rows, one run of equal scale at a time.
void apply_scales(const SourceTensor& tensor, uint64_t first, std::span<float> out) {
  const WeightScales& scales = tensor.scales;
  const uint64_t columns = tensor.columns();
  const uint64_t scales_in_row = (columns + scales.block_columns - 1) / scales.block_columns;
  const ElementLayout layout = layout_of(scales.type);
  while (!out.empty()) {
    const uint64_t row = first / columns, column = first % columns;
    const uint64_t block = column / scales.block_columns;
    const uint64_t block_end = std::min(columns, (block + 1) * scales.block_columns);
    const auto count = static_cast<size_t>(std::min<uint64_t>(block_end - column, out.size()));
    float scale = 0.0f;
    const uint64_t index = row / scales.block_rows * scales_in_row + block;
    read_plain(scales.type, scales.bytes.data() + index * layout.block_bytes, {&scale, 1});
    const float factor = scale * scales.unit;
    if (scales.divide) {
      for (float& value : out.first(count)) value /= factor;
    } else {
      for (float& value : out.first(count)) value *= factor;
    }
    first += count;
    out = out.subspan(count);
  }
}

}  // namespace

void read_float32(const SourceTensor& tensor, uint64_t first, std::span<float> out) {
  if (tensor.interleaved_heads != 0) {
    read_interleaved(tensor, first, out);
  } else {
    read_stored(tensor, first, out);
  }
  if (!tensor.scales.bytes.empty()) apply_scales(tensor, first, out);
  if (tensor.offset != 0.0f) {
    for (float& value : out) value += tensor.offset;
  }
}

std::span<const std::byte> stored_bytes(const SourceTensor& tensor, uint64_t first, uint64_t count) {
  if (count == 0) return tensor.bytes.first(0);
  // Every byte is needed again for rows that are a quarter of the matrix away.
  if (tensor.type == ElementType::kScaledTritRows) return tensor.bytes.first(0);
  uint64_t last = first + count;  // one beyond
  if (tensor.interleaved_heads != 0) {
    const RowOrder order(tensor);
    const uint64_t head_elements = order.head_rows * order.row_elements;
    first = first / head_elements * head_elements;
    last = (last + head_elements - 1) / head_elements * head_elements;
  }
  const ElementLayout layout = layout_of(tensor.type);
  const uint64_t first_block = first / layout.block_elements;
  const uint64_t last_block = (last + layout.block_elements - 1) / layout.block_elements;
  return tensor.bytes.subspan(first_block * layout.block_bytes, (last_block - first_block) * layout.block_bytes);
}

}  // namespace tritllm
