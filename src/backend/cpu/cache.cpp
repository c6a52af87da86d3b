#include "backend/cpu/cache.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <span>

#include "core/checked.h"
#include "core/half.h"
#include "kernels/tensor_kernels.h"

namespace tritllm {

using kernels::kCacheTile;

namespace {

uint64_t element_bytes(CacheType type) noexcept { return type == CacheType::kFloat32 ? 4 : type == CacheType::kFloat16 ? 2 : 1; }
bool has_scales(CacheType type) noexcept { return kernels::has_scales(static_cast<kernels::CacheType>(type)); }

// Of one head in a page: keys or values.
uint64_t bytes_of_part(const CacheShape& shape) noexcept {
  const uint64_t position =
      kernels::padded_row(shape.head_width) * element_bytes(shape.type) + (has_scales(shape.type) ? sizeof(uint16_t) : 0);
  return kCpuPagePositions * position;
}

// See kernels/attention.h.
uint16_t scale_of(std::span<const float> elements, float largest_code) noexcept {
  float largest = 0.0f;
  for (const float element : elements) {
    if (!std::isfinite(element)) return half_from_float(NAN);
    largest = std::max(largest, std::abs(element));
  }
  return half_not_below(largest / largest_code);
}

}  // namespace

CpuCache::CpuCache(const CacheShape& shape)
    : shape_(shape),
      head_stride_(kernels::padded_row(shape.head_width)),
      part_bytes_(static_cast<size_t>(bytes_of_part(shape))),
      memory_(allocatable_bytes(shape)),
      spare_(memory_.data(), page_bytes(), shape.pages) {}

size_t CpuCache::allocatable_bytes(const CacheShape& shape) {
  const auto bytes = bytes_of(shape);
  if (!bytes || *bytes > SIZE_MAX / 2) throw std::bad_alloc();
  return static_cast<size_t>(*bytes);
}

std::optional<uint64_t> CpuCache::bytes_of(const CacheShape& shape) noexcept {
  const uint64_t parts[] = {shape.pages, shape.layers, shape.key_value_heads, 2, bytes_of_part(shape)};
  return checked_product(parts);
}

size_t CpuCache::offset(Part part, uint32_t layer, PageId page, uint32_t head) const noexcept {
  return page * page_bytes() + ((size_t{layer} * shape_.key_value_heads + head) * 2 + static_cast<size_t>(part)) * part_bytes_;
}

const uint16_t* CpuCache::scales(Part part, uint32_t layer, PageId page, uint32_t head) const noexcept {
  if (!has_scales(shape_.type)) return nullptr;
  return reinterpret_cast<const uint16_t*>(elements(part, layer, page, head) + elements_of_part());
}

void CpuCache::store(Part part, uint32_t layer, PageId page, size_t position, const float* heads, const Places& places) noexcept {
  const size_t width = shape_.head_width;
  for (uint32_t head = 0; head < shape_.key_value_heads; ++head) {
    const std::span<const float> from(heads + head * width, width);
    uint8_t* const elements = memory_.data() + offset(part, layer, page, head);
    const auto copy = [&](auto* to, const auto& convert) {
      to += places.first;
      for (size_t begin = 0; begin < width; begin += places.run, to += places.stride) {
        const size_t count = std::min(places.run, width - begin);
        for (size_t i = 0; i < count; ++i) to[i] = convert(from[begin + i]);
      }
    };
    const auto copy_scaled = [&](auto* to, float largest_code, const auto& convert) {
      const uint16_t bits = scale_of(from, largest_code);
      reinterpret_cast<uint16_t*>(elements + elements_of_part())[position] = bits;
      const float scale = float_from_half(bits);
      copy(to, [&](float value) { return scale > 0.0f ? convert(value / scale) : convert(0.0f); });
    };
    switch (shape_.type) {
      case CacheType::kFloat32: copy(reinterpret_cast<float*>(elements), std::identity{}); break;
      case CacheType::kFloat16: copy(reinterpret_cast<uint16_t*>(elements), half_from_float); break;
      case CacheType::kFloat8: copy_scaled(elements, kLargestFloat8, float8_from_float); break;
      case CacheType::kInt8:
        copy_scaled(reinterpret_cast<int8_t*>(elements), 127.0f,
                    [](float value) { return static_cast<int8_t>(std::lrintf(value)); });
        break;
    }
  }
}

void CpuCache::store_keys(uint32_t layer, PageId page, size_t position, const float* heads) noexcept {
  if (layer == 0) spare_.use(page);
  const size_t within = position % kCacheTile;
  store(Part::kKeys, layer, page, position, heads, {(position - within) * head_stride_ + within, 1, kCacheTile});
}

void CpuCache::store_values(uint32_t layer, PageId page, size_t position, const float* heads) noexcept {
  store(Part::kValues, layer, page, position, heads, {position * kCacheTile, kCacheTile, size_t{kCpuPagePositions} * kCacheTile});
}

void CpuCache::copy_page(PageId from, PageId to) noexcept {
  std::memcpy(memory_.data() + to * page_bytes(), memory_.data() + from * page_bytes(), page_bytes());
}

}  // namespace tritllm
