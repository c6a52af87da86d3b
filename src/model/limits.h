// Owns how large a model may run: tokens of a sequence and of a pass, weighed against its weights and the device's memory before
// anything is allocated. Sizes in config.json are a stranger's, and a small file must not cost gigabytes.
#pragma once

#include <cstdint>
#include <string_view>

#include "backend/backend.h"
#include "model/config.h"
#include "model/model_files.h"

namespace tritllm {

// Rows of logits that are computed together: enough to share the head's weights, few enough for a vocabulary of 256,000.
inline constexpr uint32_t kLogitRows = 32;

struct ModelLimits {
  uint32_t positions;     // tokens of a sequence, prompt and answer together
  uint32_t batch_tokens;  // tokens of one forward pass; 0: Backend::usual_batch_tokens()
  uint32_t logit_rows = kLogitRows;
  std::string_view positions_field = "options.context";  // what asked for the positions, for errors
};

// The limits with as many tokens a pass and rows of logits as fit into a work space of 64 MiB or, where that is more, of the
// weights' size. Throws an Error that names both numbers where one sequence's keys, values and rotary tables do not fit into the
// device's free memory, or where a page of the cache is out of proportion to the weights.
ModelLimits settled_limits(ModelLimits limits, const ModelFiles& files, const ModelConfig& config, const Backend& backend);

CacheShape cache_shape(const ModelConfig& config, uint32_t pages, CacheType type) noexcept;

// Throws an Error at `field` that names both numbers where fewer than `needed` bytes are free on the device.
void require_memory(const Backend& backend, uint64_t needed, std::string_view field, std::string_view what);

}  // namespace tritllm
