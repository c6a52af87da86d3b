#include "backend/cpu_cache.h"

#include <algorithm>
#include <cstdint>
#include <new>

#include "core/checked.h"
#include "core/half.h"

namespace tritllm {

using kernels::kCacheTile;
using kernels::kSpanPositions;

CpuCache::CpuCache(const CacheShape& shape)
    : shape_(shape),
      spans_((size_t{shape.positions} + kSpanPositions - 1) / kSpanPositions),
      span_positions_(std::min(kSpanPositions, (size_t{shape.positions} + kCacheTile - 1) / kCacheTile * kCacheTile)),
      head_stride_(kernels::padded_row(shape.head_width)),
      element_bytes_(shape.type == CacheType::kFloat32 ? 4 : 2) {
  const uint64_t parts[] = {shape.slots, spans_,          shape.layers, shape.key_value_heads,
                            2,           span_positions_, head_stride_, element_bytes_};
  const auto bytes = checked_product(parts);
  if (!bytes || *bytes > SIZE_MAX / 2) throw std::bad_alloc();
  memory_ = PageMemory(static_cast<size_t>(*bytes));
}

size_t CpuCache::offset(Part part, uint32_t layer, uint32_t slot, uint32_t head, size_t span) const noexcept {
  const size_t index = ((slot * spans_ + span) * shape_.layers + layer) * shape_.key_value_heads + head;
  return (index * 2 + static_cast<size_t>(part)) * span_positions_ * head_stride_ * element_bytes_;
}

void CpuCache::scatter(Part part, uint32_t layer, TokenPlace place, const float* heads, size_t first, size_t run,
                       size_t stride) noexcept {
  const size_t width = shape_.head_width;
  const auto copy = [&](const float* from, auto* to, auto convert) {
    for (size_t begin = 0; begin < width; begin += run, to += stride) {
      const size_t count = std::min(run, width - begin);
      for (size_t i = 0; i < count; ++i) to[i] = convert(from[begin + i]);
    }
  };
  for (uint32_t head = 0; head < shape_.key_value_heads; ++head) {
    uint8_t* const to = memory_.data() + offset(part, layer, place.slot, head, place.position / kSpanPositions);
    if (shape_.type == CacheType::kFloat32) {
      copy(heads + head * width, reinterpret_cast<float*>(to) + first, [](float value) { return value; });
    } else {
      copy(heads + head * width, reinterpret_cast<uint16_t*>(to) + first, half_from_float);
    }
  }
}

void CpuCache::store_keys(uint32_t layer, TokenPlace place, const float* heads) noexcept {
  const size_t position = place.position % kSpanPositions, within = position % kCacheTile;
  scatter(Part::kKeys, layer, place, heads, (position - within) * head_stride_ + within, 1, kCacheTile);
}

void CpuCache::store_values(uint32_t layer, TokenPlace place, const float* heads) noexcept {
  const size_t position = place.position % kSpanPositions;
  scatter(Part::kValues, layer, place, heads, position * kCacheTile, kCacheTile, span_positions_ * kCacheTile);
}

const void* CpuCache::keys(uint32_t layer, uint32_t slot, uint32_t head, size_t span) const noexcept {
  return memory_.data() + offset(Part::kKeys, layer, slot, head, span);
}

const void* CpuCache::values(uint32_t layer, uint32_t slot, uint32_t head, size_t span) const noexcept {
  return memory_.data() + offset(Part::kValues, layer, slot, head, span);
}

}  // namespace tritllm
