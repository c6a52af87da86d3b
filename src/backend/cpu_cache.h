// Owns the key/value cache in main memory, in the layout that the attention kernels read (kernels/attention.h):
// [slot][span of positions][layer][head][keys, values], so that a text takes large pages of memory only as it grows, and attention
// reads a head's keys and then its values forward.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/backend.h"
#include "core/page_memory.h"

namespace tritllm {

class CpuCache final : public KeyValueCache {
 public:
  // The system gives memory as spans are written: an unused slot costs none. What was never written is zero.
  explicit CpuCache(const CacheShape& shape);

  const CacheShape& shape() const noexcept { return shape_; }
  uint64_t bytes() const noexcept override { return memory_.bytes(); }

  // heads: [key_value_heads][head_width].
  void store_keys(uint32_t layer, TokenPlace place, const float* heads) noexcept;
  void store_values(uint32_t layer, TokenPlace place, const float* heads) noexcept;

  // Of one head, from the first position of a span (kernels::kSpanPositions) on.
  const void* keys(uint32_t layer, uint32_t slot, uint32_t head, size_t span) const noexcept;
  const void* values(uint32_t layer, uint32_t slot, uint32_t head, size_t span) const noexcept;
  size_t spans() const noexcept { return spans_; }
  // Positions from one strip of values to the next.
  size_t value_stride() const noexcept { return span_positions_; }

 private:
  enum class Part { kKeys, kValues };

  // In bytes.
  size_t offset(Part part, uint32_t layer, uint32_t slot, uint32_t head, size_t span) const noexcept;
  // heads[…][i] goes to element first + i / run · stride + i % run of its head's part.
  void scatter(Part part, uint32_t layer, TokenPlace place, const float* heads, size_t first, size_t run, size_t stride) noexcept;

  CacheShape shape_;
  size_t spans_;
  size_t span_positions_;  // that lie together: fewer than the kernels' where the whole cache has fewer
  size_t head_stride_;     // padded_row(head width)
  size_t element_bytes_;
  PageMemory memory_;
};

}  // namespace tritllm
