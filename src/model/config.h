// Owns what a model's config.json says, validated: sizes, layers, rotary frequencies. After reading, every number here may be
// trusted: products fit, divisions are exact, tables are of the stated length. Does not own tensor names (families.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/json_fwd.h"
#include "io/decoder_tensors.h"

namespace tritllm {

struct Family;

// What differs from layer to layer.
struct LayerConfig {
  uint32_t window = 0;        // positions that a token sees, its own included; 0: all before it
  uint32_t rotary_index = 0;  // into ModelConfig::rotaries
};

struct ModelConfig {
  const Family* family = nullptr;
  uint32_t vocabulary, hidden, feed_forward, layer_count, heads, key_value_heads, head_width;
  uint32_t trained_positions;  // max_position_embeddings
  float norm_epsilon;
  Activation activation;
  float embedding_scale;
  float attention_scale;
  float attention_softcap, logit_softcap;  // 0: none
  bool query_key_value_biases, output_bias, feed_forward_biases;
  bool tied_head;
  bool rounds_activations;  // matrices of layers multiply activations of eight bits a token, as the model was trained
  std::vector<RotaryFrequencies> rotaries;
  std::vector<LayerConfig> layers;

  // The tensors of the model and their shapes.
  DecoderShape decoder_shape() const noexcept;

  uint32_t query_width() const noexcept { return heads * head_width; }
  uint32_t key_value_width() const noexcept { return key_value_heads * head_width; }
};

// `where` names config.json in errors. Refuses by name whatever would make the model compute something else than this project does:
// unknown architectures, rotary types, activations.
ModelConfig read_model_config(const Json& config, const std::string& where);

}  // namespace tritllm
