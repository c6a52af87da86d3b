#include "backend/cpu_cache.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "core/checked.h"
#include "core/half.h"

namespace tritllm {

CpuCache::CpuCache(const CacheShape& shape)
    : shape_(shape), row_bytes_(kernels::padded_row(shape.head_width) * (shape.type == CacheType::kFloat32 ? 4 : 2)) {
  const uint64_t parts[] = {2, shape.layers, shape.slots, shape.key_value_heads, shape.positions, row_bytes_};
  const auto bytes = checked_product(parts);
  if (!bytes || *bytes > SIZE_MAX / 2) throw std::bad_alloc();
  bytes_ = *bytes;
  memory_.reset(static_cast<std::byte*>(std::calloc(1, std::max<size_t>(1, static_cast<size_t>(bytes_)))));
  if (!memory_) throw std::bad_alloc();
}

size_t CpuCache::offset(Part part, uint32_t layer, uint32_t slot, uint32_t head, uint32_t position) const noexcept {
  const size_t index = ((static_cast<size_t>(part) * shape_.layers + layer) * shape_.slots + slot) * shape_.key_value_heads + head;
  return (index * shape_.positions + position) * row_bytes_;
}

void CpuCache::store(Part part, uint32_t layer, TokenPlace place, const float* heads) noexcept {
  const size_t width = shape_.head_width;
  for (uint32_t head = 0; head < shape_.key_value_heads; ++head) {
    std::byte* const to = memory_.get() + offset(part, layer, place.slot, head, place.position);
    const float* const from = heads + head * width;
    if (shape_.type == CacheType::kFloat32) std::memcpy(to, from, width * sizeof(float));
    else std::transform(from, from + width, reinterpret_cast<uint16_t*>(to), half_from_float);
  }
}

const void* CpuCache::rows(Part part, uint32_t layer, uint32_t slot, uint32_t head, uint32_t first) const noexcept {
  return memory_.get() + offset(part, layer, slot, head, first);
}

}  // namespace tritllm
