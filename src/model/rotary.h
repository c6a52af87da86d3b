// Owns the rotary position embedding's frequencies, from what config.json says in any dialect that transformers 5 reads: rope_theta
// with rope_scaling, or rope_parameters, for the whole model or for each kind of layer. Does not own their use by a backend.
#pragma once

#include <cstdint>
#include <string_view>

#include "backend/backend.h"
#include "core/json_fwd.h"

namespace tritllm {

struct RotarySettings {
  std::string_view layer_type;  // "full_attention" or "sliding_attention"
  std::string_view theta_key;   // where the older dialect has the base
  float default_theta;
  bool scaled;          // whether the older dialect's rope_scaling counts for these layers
  bool per_layer_type;  // rope_parameters holds an object for each layer type
};

// `head_width` is even; `trained_positions` is config.json's max_position_embeddings.
RotaryFrequencies read_rotary_frequencies(const JsonView& config, const RotarySettings& settings, uint32_t head_width,
                                          uint32_t trained_positions);

}  // namespace tritllm
