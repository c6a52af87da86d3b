#include "backend/backend.h"

#include "core/checked.h"

namespace tritllm {

uint64_t Backend::cache_bytes(const CacheShape& shape) const {
  const uint64_t element = shape.type == CacheType::kFloat32 ? 4 : 2;
  const uint64_t parts[] = {shape.pages, page_positions(), shape.layers, shape.key_value_heads, 2, shape.head_width, element};
  return checked_product(parts).value_or(UINT64_MAX);
}

}  // namespace tritllm
