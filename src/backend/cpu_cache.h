// Owns the key/value cache in main memory: for each layer, slot and head a run of positions, so that attention reads forward.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "backend/backend.h"

namespace tritllm {

class CpuCache final : public KeyValueCache {
 public:
  enum class Part { kKeys, kValues };

  // The system gives memory as positions are written: an unused slot costs none.
  explicit CpuCache(const CacheShape& shape);

  const CacheShape& shape() const noexcept { return shape_; }
  uint64_t bytes() const noexcept override { return bytes_; }

  // heads: [key_value_heads][head_width].
  void store(Part part, uint32_t layer, TokenPlace place, const float* heads) noexcept;
  // The rows of one head from position `first` on, padded_row(head_width) elements each.
  const void* rows(Part part, uint32_t layer, uint32_t slot, uint32_t head, uint32_t first) const noexcept;

 private:
  size_t offset(Part part, uint32_t layer, uint32_t slot, uint32_t head, uint32_t position) const noexcept;

  struct Release {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };

  CacheShape shape_;
  size_t row_bytes_;
  uint64_t bytes_;
  std::unique_ptr<std::byte, Release> memory_;
};

}  // namespace tritllm
