// Owns what a model's files tell before its weights are read: facts for its page, and the memory that it will take.
#pragma once

#include <cstdint>
#include <filesystem>

#include "core/json_fwd.h"
#include "engine/engine.h"

namespace tritllm::server {

struct ModelFacts {
  // {"architecture", "layers", "hidden_size", "vocabulary", "trained_context", "parameters", "stored_bytes", "recipe",
  // "nominal_bits_per_weight", "stored_bits_per_weight", "source", "base_model", "license"}; null where the files do not tell.
  JsonDocument json;
  // Of the weights in memory; Model::weight_bytes() is exact, once the model is loaded.
  uint64_t least_weight_bytes, expected_weight_bytes;
  uint64_t cache_bytes_per_token;  // of keys and values
  uint32_t context;                // tokens of the longest sequence
};

// `asked_context`: tokens of a sequence, 0: the usual ones. Throws what opening the model throws.
ModelFacts read_model_facts(const std::filesystem::path& path, CacheType cache, uint32_t asked_context);

}  // namespace tritllm::server
