#include "model/families.h"

#include <fmt/format.h>

#include <string>

namespace tritllm {

namespace {

// clang-format off
constexpr Family kFamilies[] = {
    {.architecture = "LlamaForCausalLM",  // Llama 2 and 3, SmolLM2
     .activation_field = "hidden_act",
     .query_key_value_bias = BiasRule::kAttentionBiasField, .output_bias = BiasRule::kAttentionBiasField,
     .feed_forward_bias_field = true, .windows = WindowRule::kNone, .local_period = 0, .local_rotary = false, .query_key_norm = false,
     .gains_are_offsets = false, .norms_after_blocks = false, .embedding_scaled = false, .query_scalar = false, .attention_softcap = false,
     .tied_by_default = false, .default_head_width = 0},
    {.architecture = "MistralForCausalLM",
     .activation_field = "hidden_act",
     .query_key_value_bias = BiasRule::kNever, .output_bias = BiasRule::kNever,
     .feed_forward_bias_field = false, .windows = WindowRule::kAllLayers, .local_period = 0, .local_rotary = false, .query_key_norm = false,
     .gains_are_offsets = false, .norms_after_blocks = false, .embedding_scaled = false, .query_scalar = false, .attention_softcap = false,
     .tied_by_default = false, .default_head_width = 0},
    {.architecture = "Qwen2ForCausalLM",
     .activation_field = "hidden_act",
     .query_key_value_bias = BiasRule::kAlways, .output_bias = BiasRule::kNever,
     .feed_forward_bias_field = false, .windows = WindowRule::kUpperLayers, .local_period = 0, .local_rotary = false, .query_key_norm = false,
     .gains_are_offsets = false, .norms_after_blocks = false, .embedding_scaled = false, .query_scalar = false, .attention_softcap = false,
     .tied_by_default = false, .default_head_width = 0},
    {.architecture = "Qwen3ForCausalLM",
     .activation_field = "hidden_act",
     .query_key_value_bias = BiasRule::kAttentionBiasField, .output_bias = BiasRule::kAttentionBiasField,
     .feed_forward_bias_field = false, .windows = WindowRule::kUpperLayers, .local_period = 0, .local_rotary = false, .query_key_norm = true,
     .gains_are_offsets = false, .norms_after_blocks = false, .embedding_scaled = false, .query_scalar = false, .attention_softcap = false,
     .tied_by_default = false, .default_head_width = 128},
    {.architecture = "Gemma2ForCausalLM",
     .activation_field = "hidden_activation",
     .query_key_value_bias = BiasRule::kAttentionBiasField, .output_bias = BiasRule::kAttentionBiasField,
     .feed_forward_bias_field = false, .windows = WindowRule::kLocalLayers, .local_period = 2, .local_rotary = false, .query_key_norm = false,
     .gains_are_offsets = true, .norms_after_blocks = true, .embedding_scaled = true, .query_scalar = true, .attention_softcap = true,
     .tied_by_default = true, .default_head_width = 256},
    {.architecture = "Gemma3ForCausalLM",
     .activation_field = "hidden_activation",
     .query_key_value_bias = BiasRule::kAttentionBiasField, .output_bias = BiasRule::kAttentionBiasField,
     .feed_forward_bias_field = false, .windows = WindowRule::kLocalLayers, .local_period = 6, .local_rotary = true, .query_key_norm = true,
     .gains_are_offsets = true, .norms_after_blocks = true, .embedding_scaled = true, .query_scalar = true, .attention_softcap = false,
     .tied_by_default = true, .default_head_width = 256},
};
// clang-format on

}  // namespace

const Family* find_family(std::string_view architecture) noexcept {
  for (const Family& family : kFamilies) {
    if (family.architecture == architecture) return &family;
  }
  return nullptr;
}

std::string supported_architectures() {
  std::string names;
  for (const Family& family : kFamilies) names += fmt::format("{}{}", names.empty() ? "" : ", ", family.architecture);
  return names;
}

}  // namespace tritllm
