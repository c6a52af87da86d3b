// Owns what a reader of a model's page wants to know: architecture, size, recipe, licence, from the model's own files. Does not own
// how it is shown.
#pragma once

#include <filesystem>

#include "core/json.h"
#include "model/config.h"

namespace tritllm::server {

// What the files do not tell is null. Never throws for files that a loaded model can do without.
Json model_facts(const std::filesystem::path& path, const ModelConfig& config);

}  // namespace tritllm::server
