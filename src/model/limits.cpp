#include "model/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "core/checked.h"
#include "core/error.h"
#include "model/families.h"

namespace tritllm {
namespace {

constexpr uint64_t kLeastWorkSpace = uint64_t{64} << 20, kLeastCachePage = uint64_t{256} << 20;

std::string shown(uint64_t bytes) { return fmt::format("{:.2f} GB", static_cast<double>(bytes) * 1e-9); }

uint64_t product(std::initializer_list<uint64_t> factors) {
  return checked_product(std::span(factors.begin(), factors.size())).value_or(UINT64_MAX);
}

// Bytes that a token of a pass takes in the rows that layers share.
uint64_t work_bytes_per_token(const ModelConfig& config) {
  return sizeof(float) * (2 * uint64_t{config.query_width()} + 2 * uint64_t{config.key_value_width()} +
                          2 * uint64_t{config.feed_forward} + 2 * uint64_t{config.hidden});
}

uint32_t that_fit(uint64_t room, uint64_t bytes_of_each, uint32_t most) {
  return static_cast<uint32_t>(std::clamp<uint64_t>(room / std::max<uint64_t>(1, bytes_of_each), 1, most));
}

}  // namespace

CacheShape cache_shape(const ModelConfig& config, uint32_t pages, CacheType type) noexcept {
  return {.layers = config.layer_count,
          .key_value_heads = config.key_value_heads,
          .head_width = config.head_width,
          .pages = pages,
          .type = type};
}

void require_memory(const Backend& backend, uint64_t needed, std::string_view field, std::string_view what) {
  const uint64_t free = backend.free_memory();
  if (needed <= free) return;
  throw Error(ErrorCode::kUsage, field, fmt::format("{} need {} of memory, {} are free", what, shown(needed), shown(free)),
              "ask for less, or free some memory");
}

ModelLimits settled_limits(ModelLimits limits, const ModelFiles& files, const ModelConfig& config, const Backend& backend) {
  const uint64_t weights = weight_bytes(files), room = std::max(kLeastWorkSpace, weights);
  if (limits.batch_tokens == 0) limits.batch_tokens = backend.usual_batch_tokens();
  limits.batch_tokens = that_fit(room, work_bytes_per_token(config), limits.batch_tokens);
  limits.logit_rows = that_fit(room, sizeof(float) * uint64_t{config.vocabulary}, limits.logit_rows);

  const uint64_t page = backend.cache_bytes(cache_shape(config, 1, CacheType::kFloat16));
  if (page > std::max(kLeastCachePage, weights)) {
    throw Error(ErrorCode::kUnsupported, files.config_place,
                fmt::format("keys and values of {} tokens would take {}, and the weights are of {}", backend.page_positions(),
                            shown(page), shown(weights)),
                "check num_key_value_heads, head_dim and num_hidden_layers");
  }
  uint64_t rotary = 0;
  for (const RotaryFrequencies& frequencies : config.rotaries)
    rotary += product({2, sizeof(float), limits.positions, frequencies.inverse_wavelengths.size()});
  const uint32_t pages = (limits.positions - 1) / backend.page_positions() + 1;
  const uint64_t cache = backend.cache_bytes(cache_shape(config, pages, CacheType::kFloat16));
  require_memory(backend, cache > UINT64_MAX - rotary ? UINT64_MAX : cache + rotary, limits.positions_field,
                 fmt::format("keys, values and rotary tables of {} tokens", limits.positions));
  return limits;
}

}  // namespace tritllm
