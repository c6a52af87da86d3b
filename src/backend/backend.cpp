#include "backend/backend.h"

#include <algorithm>
#include <iterator>

namespace tritllm {

std::optional<CacheType> cache_type_named(std::string_view name) noexcept {
  const auto* const found = std::ranges::find(kCacheTypeNames, name);
  if (found == std::end(kCacheTypeNames)) return std::nullopt;
  return static_cast<CacheType>(found - kCacheTypeNames);
}

}  // namespace tritllm
