// Owns the rotary position embedding's frequencies, from what config.json says in either of its two dialects: rope_theta with
// rope_scaling, or rope_parameters. Does not own their use (Backend::rotate).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "backend/backend.h"
#include "core/json.h"

namespace tritllm {

struct RotarySettings {
  std::string_view layer_type;  // "full_attention" or "sliding_attention": rope_parameters may be given for each
  std::string_view theta_key;   // where the older dialect has the base
  float default_theta;
  bool scaled;  // whether the older dialect's rope_scaling counts for these layers
};

// `head_width` is even; `trained_positions` is config.json's max_position_embeddings.
RotaryFrequencies read_rotary_frequencies(const Json& config, const RotarySettings& settings, uint32_t head_width,
                                          uint32_t trained_positions, const std::string& where);

}  // namespace tritllm
