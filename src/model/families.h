// Owns the list of model families that the engine runs: a row of data each. A new family that differs only in these fields needs a
// row here and a case in tests/model/tiny_models.py, nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "backend/backend.h"
#include "core/json_fwd.h"

namespace tritllm {

// How config.json tells which layers see only a window. Every rule but the first also takes a list, layer_types.
enum class WindowRule {
  kNone,         // every layer sees everything
  kAllLayers,    // sliding_window, in every layer
  kUpperLayers,  // use_sliding_window, from layer max_window_layers on
  kLocalLayers,  // sliding_window, in all but every `local_period`-th layer
};

enum class BiasRule { kNever, kAlways, kAttentionBiasField };

// What the family's configuration class in transformers assumes where config.json says nothing.
struct FamilySizes {
  uint32_t vocabulary, hidden, feed_forward, layers, heads;
  uint32_t key_value_heads;  // 0: as many as heads
  uint32_t head_width;       // 0: hidden / heads
  uint32_t positions;
};

struct Family {
  std::string_view architecture;  // config.json's architectures[0]
  std::string_view model_type;    // config.json's model_type
  FamilySizes defaults;
  std::string_view activation_field = "hidden_act";
  Activation default_activation = Activation::kSilu;
  BiasRule query_key_value_bias = BiasRule::kNever;
  BiasRule output_bias = BiasRule::kNever;
  bool feed_forward_bias_field = false;  // mlp_bias counts
  WindowRule windows = WindowRule::kNone;
  uint32_t local_period = 0;             // of WindowRule::kLocalLayers
  bool local_period_field = false;       // sliding_window_pattern counts
  bool local_rotary = false;             // layers with a window have rotary frequencies of their own
  bool query_key_norm = false;           // RMS norm of each head's query and key
  bool gains_are_offsets = false;        // norm gains are stored as gain − 1
  bool norms_after_blocks = false;       // attention and feed-forward outputs are normed before they are added ("sandwich")
  bool norms_inside_blocks = false;      // what the output and down matrices multiply is normed first ("sub-norms")
  bool embedding_scaled = false;         // embeddings are multiplied by sqrt(hidden)
  bool query_scalar = false;             // scores are divided by sqrt(query_pre_attn_scalar), not by sqrt(head width)
  bool attention_softcap_field = false;  // attn_logit_softcapping counts
  bool logit_softcap_field = false;      // final_logit_softcapping counts
  float default_attention_softcap = 0.0f, default_logit_softcap = 0.0f;  // 0: none
  float default_epsilon = 1e-6f;
  float default_rotary_base = 1e4f;
};

// Null where the architecture is not one that the engine runs.
const Family* find_family(std::string_view architecture) noexcept;

// The family that config.json names. As in transformers, model_type decides between decoders; architectures tells decoders from
// classifiers and bare bodies, and may be missing. Null where the engine does not run the model.
const Family* family_of_config(const Json& config);

// "LlamaForCausalLM, MistralForCausalLM, …"
std::string supported_architectures();

}  // namespace tritllm
