// Owns the settings that a chat may change while it runs: their names, their values as text and as JSON, and their ranges. Does not
// own what they do (sampling/sampler_options.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "sampling/sampler_options.h"

namespace tritllm::app {

struct ChatSettings {
  SamplerOptions sampler;        // its seed stands for nothing
  std::optional<uint64_t> seed;  // nothing: another one for each answer
  uint32_t tokens = 0;           // of an answer at most; 0: as many as the context has room for
};

// "top-k" and "top_k" are one name. Throws an Error that lists the names or the range, and leaves the settings as they were.
void change_setting(ChatSettings& settings, std::string_view name, std::string_view value, size_t vocabulary_size);

// One "name value" a line.
std::string settings_text(const ChatSettings& settings);

// Biases of single tokens are no part of it: other models number their tokens differently.
Json settings_json(const ChatSettings& settings);

// The settings with those that `json` names changed; `where` names its source in errors.
ChatSettings changed_settings(ChatSettings settings, const Json& json, size_t vocabulary_size, const std::string& where);

}  // namespace tritllm::app
