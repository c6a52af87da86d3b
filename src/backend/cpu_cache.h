// Owns the key/value cache in main memory: for each layer, slot and head a run of positions in the layout that the attention
// kernels read (kernels/attention.h), so that attention reads forward.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "backend/backend.h"

namespace tritllm {

class CpuCache final : public KeyValueCache {
 public:
  // The system gives memory as positions are written: an unused slot costs none. What was never written is zero.
  explicit CpuCache(const CacheShape& shape);

  const CacheShape& shape() const noexcept { return shape_; }
  uint64_t bytes() const noexcept override { return bytes_; }

  // heads: [key_value_heads][head_width].
  void store_keys(uint32_t layer, TokenPlace place, const float* heads) noexcept;
  void store_values(uint32_t layer, TokenPlace place, const float* heads) noexcept;

  // Of one head from position `first` on, a multiple of kernels::kCacheTile.
  const void* keys(uint32_t layer, uint32_t slot, uint32_t head, size_t first) const noexcept;
  const void* values(uint32_t layer, uint32_t slot, uint32_t head, size_t first) const noexcept;
  // Positions from one strip of values to the next.
  size_t value_stride() const noexcept { return positions_; }

 private:
  enum class Part { kKeys, kValues };

  // Of a head's first element, in elements.
  size_t head_offset(Part part, uint32_t layer, uint32_t slot, uint32_t head) const noexcept;
  const std::byte* element(size_t index) const noexcept { return memory_.get() + index * element_bytes_; }
  // values[i] goes to element first + i / run · stride + i % run.
  void scatter(const float* values, size_t first, size_t run, size_t stride) noexcept;

  struct Release {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };

  CacheShape shape_;
  size_t positions_;    // whole tiles
  size_t head_stride_;  // padded_row(head width)
  size_t element_bytes_;
  uint64_t bytes_;
  std::unique_ptr<std::byte, Release> memory_;
};

}  // namespace tritllm
