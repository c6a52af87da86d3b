#include "backend/cpu_cache.h"

#include <algorithm>
#include <new>

#include "core/checked.h"
#include "core/half.h"

namespace tritllm {

using kernels::kCacheTile;

CpuCache::CpuCache(const CacheShape& shape)
    : shape_(shape),
      positions_((size_t{shape.positions} + kCacheTile - 1) / kCacheTile * kCacheTile),
      head_stride_(kernels::padded_row(shape.head_width)),
      element_bytes_(shape.type == CacheType::kFloat32 ? 4 : 2) {
  const uint64_t parts[] = {2, shape.layers, shape.slots, shape.key_value_heads, positions_, head_stride_, element_bytes_};
  const auto bytes = checked_product(parts);
  if (!bytes || *bytes > SIZE_MAX / 2) throw std::bad_alloc();
  bytes_ = *bytes;
  memory_.reset(static_cast<std::byte*>(std::calloc(1, std::max<size_t>(1, static_cast<size_t>(bytes_)))));
  if (!memory_) throw std::bad_alloc();
}

size_t CpuCache::head_offset(Part part, uint32_t layer, uint32_t slot, uint32_t head) const noexcept {
  const size_t index = ((static_cast<size_t>(part) * shape_.layers + layer) * shape_.slots + slot) * shape_.key_value_heads + head;
  return index * positions_ * head_stride_;
}

void CpuCache::scatter(const float* values, size_t first, size_t run, size_t stride) noexcept {
  const auto copy = [&](auto* to, auto convert) {
    for (size_t begin = 0; begin < shape_.head_width; begin += run, to += stride) {
      const size_t count = std::min<size_t>(run, shape_.head_width - begin);
      for (size_t i = 0; i < count; ++i) to[i] = convert(values[begin + i]);
    }
  };
  std::byte* const to = memory_.get() + first * element_bytes_;
  if (shape_.type == CacheType::kFloat32) copy(reinterpret_cast<float*>(to), [](float value) { return value; });
  else copy(reinterpret_cast<uint16_t*>(to), half_from_float);
}

void CpuCache::store_keys(uint32_t layer, TokenPlace place, const float* heads) noexcept {
  const size_t tile = place.position / kCacheTile * kCacheTile * head_stride_ + place.position % kCacheTile;
  for (uint32_t head = 0; head < shape_.key_value_heads; ++head) {
    scatter(heads + head * shape_.head_width, head_offset(Part::kKeys, layer, place.slot, head) + tile, 1, kCacheTile);
  }
}

void CpuCache::store_values(uint32_t layer, TokenPlace place, const float* heads) noexcept {
  for (uint32_t head = 0; head < shape_.key_value_heads; ++head) {
    scatter(heads + head * shape_.head_width,
            head_offset(Part::kValues, layer, place.slot, head) + place.position * kCacheTile, kCacheTile, positions_ * kCacheTile);
  }
}

const void* CpuCache::keys(uint32_t layer, uint32_t slot, uint32_t head, size_t first) const noexcept {
  return element(head_offset(Part::kKeys, layer, slot, head) + first * head_stride_);
}

const void* CpuCache::values(uint32_t layer, uint32_t slot, uint32_t head, size_t first) const noexcept {
  return element(head_offset(Part::kValues, layer, slot, head) + first * kCacheTile);
}

}  // namespace tritllm
