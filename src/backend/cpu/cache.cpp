#include "backend/cpu/cache.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

#include "core/checked.h"
#include "core/half.h"
#include "kernels/tensor_kernels.h"

namespace tritllm {

using kernels::kCacheTile;

CpuCache::CpuCache(const CacheShape& shape)
    : shape_(shape),
      head_stride_(kernels::padded_row(shape.head_width)),
      element_bytes_(shape.type == CacheType::kFloat32 ? 4 : 2) {
  const auto bytes = bytes_of(shape);
  if (!bytes || *bytes > SIZE_MAX / 2) throw std::bad_alloc();
  memory_ = PageMemory(static_cast<size_t>(*bytes));
}

std::optional<uint64_t> CpuCache::bytes_of(const CacheShape& shape) noexcept {
  const uint64_t element = shape.type == CacheType::kFloat32 ? 4 : 2, stride = kernels::padded_row(shape.head_width);
  const uint64_t parts[] = {shape.pages, shape.layers, shape.key_value_heads, 2, kCpuPagePositions, stride, element};
  return checked_product(parts);
}

size_t CpuCache::offset(Part part, uint32_t layer, PageId page, uint32_t head) const noexcept {
  return page * page_bytes() + ((size_t{layer} * shape_.key_value_heads + head) * 2 + static_cast<size_t>(part)) * part_bytes();
}

void CpuCache::scatter(Part part, uint32_t layer, PageId page, const float* heads, size_t first, size_t run,
                       size_t stride) noexcept {
  const size_t width = shape_.head_width;
  const auto copy = [&](const float* from, auto* to, auto convert) {
    for (size_t begin = 0; begin < width; begin += run, to += stride) {
      const size_t count = std::min(run, width - begin);
      for (size_t i = 0; i < count; ++i) to[i] = convert(from[begin + i]);
    }
  };
  for (uint32_t head = 0; head < shape_.key_value_heads; ++head) {
    uint8_t* const to = memory_.data() + offset(part, layer, page, head);
    if (shape_.type == CacheType::kFloat32) {
      copy(heads + head * width, reinterpret_cast<float*>(to) + first, [](float value) { return value; });
    } else {
      copy(heads + head * width, reinterpret_cast<uint16_t*>(to) + first, half_from_float);
    }
  }
}

void CpuCache::store_keys(uint32_t layer, PageId page, size_t position, const float* heads) noexcept {
  const size_t within = position % kCacheTile;
  scatter(Part::kKeys, layer, page, heads, (position - within) * head_stride_ + within, 1, kCacheTile);
}

void CpuCache::store_values(uint32_t layer, PageId page, size_t position, const float* heads) noexcept {
  scatter(Part::kValues, layer, page, heads, position * kCacheTile, kCacheTile, size_t{kCpuPagePositions} * kCacheTile);
}

const void* CpuCache::keys(uint32_t layer, PageId page, uint32_t head) const noexcept {
  return memory_.data() + offset(Part::kKeys, layer, page, head);
}

const void* CpuCache::values(uint32_t layer, PageId page, uint32_t head) const noexcept {
  return memory_.data() + offset(Part::kValues, layer, page, head);
}

void CpuCache::copy_page(PageId from, PageId to) noexcept {
  std::memcpy(memory_.data() + to * page_bytes(), memory_.data() + from * page_bytes(), page_bytes());
}

}  // namespace tritllm
