// Owns the key/value cache in main memory, in the layout that the attention kernels read (kernels/attention.h):
// [page][layer][head][keys, values]. A page is one span of positions, so that attention reads a head's keys and then its values
// forward. Does not own which sequence has which page (src/engine).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "backend/backend.h"
#include "backend/cpu/spare_page.h"
#include "core/page_memory.h"
#include "kernels/attention.h"

namespace tritllm {

// Positions of a page: one span of the attention kernels.
inline constexpr uint32_t kCpuPagePositions = kernels::kSpanPositions;

class CpuCache final : public KeyValueCache {
 public:
  // The system gives memory as pages are written, and for one page ahead (spare_page.h): other unused pages cost none. What was
  // never written is zero. Throws std::bad_alloc.
  explicit CpuCache(const CacheShape& shape);
  // Nothing where the product does not fit 64 bits.
  static std::optional<uint64_t> bytes_of(const CacheShape& shape) noexcept;

  const CacheShape& shape() const noexcept { return shape_; }
  uint64_t bytes() const noexcept override { return memory_.bytes(); }

  // heads: [key_value_heads][head_width]; `position` counts from the page's first.
  void store_keys(uint32_t layer, PageId page, size_t position, const float* heads) noexcept;
  void store_values(uint32_t layer, PageId page, size_t position, const float* heads) noexcept;

  // Of one head, from the first position of a page on. Scales are null where elements have none.
  const void* keys(uint32_t layer, PageId page, uint32_t head) const noexcept { return elements(Part::kKeys, layer, page, head); }
  const void* values(uint32_t layer, PageId page, uint32_t head) const noexcept {
    return elements(Part::kValues, layer, page, head);
  }
  const uint16_t* key_scales(uint32_t layer, PageId page, uint32_t head) const noexcept {
    return scales(Part::kKeys, layer, page, head);
  }
  const uint16_t* value_scales(uint32_t layer, PageId page, uint32_t head) const noexcept {
    return scales(Part::kValues, layer, page, head);
  }

  void copy_page(PageId from, PageId to) noexcept;

 private:
  enum class Part { kKeys, kValues };
  // Where the elements of one head and position go: element i to first + i / run · stride + i % run.
  struct Places {
    size_t first, run, stride;
  };

  static size_t allocatable_bytes(const CacheShape& shape);
  // A part is [elements][scales].
  size_t page_bytes() const noexcept { return size_t{shape_.layers} * shape_.key_value_heads * 2 * part_bytes_; }
  size_t elements_of_part() const noexcept { return size_t{kCpuPagePositions} * head_stride_; }
  size_t offset(Part part, uint32_t layer, PageId page, uint32_t head) const noexcept;
  const uint8_t* elements(Part part, uint32_t layer, PageId page, uint32_t head) const noexcept {
    return memory_.data() + offset(part, layer, page, head);
  }
  const uint16_t* scales(Part part, uint32_t layer, PageId page, uint32_t head) const noexcept;
  void store(Part part, uint32_t layer, PageId page, size_t position, const float* heads, const Places& places) noexcept;

  CacheShape shape_;
  size_t head_stride_;  // padded_row(head width)
  size_t part_bytes_;
  PageMemory memory_;
  SparePage spare_;
};

}  // namespace tritllm
