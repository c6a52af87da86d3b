// Owns the list of model families that the engine runs: a row of data each. A new family that differs only in these fields needs a
// row here and a case in tests/model/tiny_models.py, nothing else.
#pragma once

#include <cstdint>
#include <string_view>

#include "backend/backend.h"

namespace tritllm {

// How config.json tells which layers see only a window.
enum class WindowRule {
  kNone,         // every layer sees everything
  kAllLayers,    // sliding_window, in every layer
  kUpperLayers,  // use_sliding_window, from layer max_window_layers on, or layer_types
  kLocalLayers,  // layer_types, or all but every sliding_window_pattern-th
};

enum class BiasRule { kNever, kAlways, kAttentionBiasField };

struct Family {
  std::string_view architecture;      // config.json's architectures[0]
  std::string_view activation_field;  // name of the field that names the activation
  BiasRule query_key_value_bias;
  BiasRule output_bias;
  bool feed_forward_bias_field;  // mlp_bias counts
  WindowRule windows;
  uint32_t local_period;        // of WindowRule::kLocalLayers
  bool local_rotary;            // layers with a window have rotary frequencies of their own
  bool query_key_norm;          // RMS norm of each head's query and key
  bool gains_are_offsets;       // norm gains are stored as gain − 1
  bool norms_after_blocks;      // attention and feed-forward outputs are normed before they are added ("sandwich")
  bool embedding_scaled;        // embeddings are multiplied by sqrt(hidden)
  bool query_scalar;            // scores are divided by sqrt(query_pre_attn_scalar), not by sqrt(head width)
  bool attention_softcap;       // attn_logit_softcapping counts
  bool tied_by_default;         // where config.json does not say
  uint32_t default_head_width;  // where config.json has no head_dim; 0: hidden / heads
};

// Null where the architecture is not one that the engine runs.
const Family* find_family(std::string_view architecture) noexcept;

// "LlamaForCausalLM, MistralForCausalLM, …"
std::string supported_architectures();

}  // namespace tritllm
