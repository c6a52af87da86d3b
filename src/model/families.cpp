// Owns the rows of families.h.
#include "model/families.h"

#include <fmt/format.h>

#include <string>

#include "core/json.h"

namespace tritllm {

namespace {

using enum BiasRule;
using enum WindowRule;

constexpr Family kGemma2{.architecture = "Gemma2ForCausalLM",
                         .model_type = "gemma2",
                         .defaults = {256'000, 2304, 9216, 26, 8, 4, 256, 8192},
                         .activation_field = "hidden_activation",
                         .default_activation = Activation::kGeluTanh,
                         .query_key_value_bias = kAttentionBiasField,
                         .output_bias = kAttentionBiasField,
                         .windows = kLocalLayers,
                         .local_period = 2,
                         .gains_are_offsets = true,
                         .norms_after_blocks = true,
                         .embedding_scaled = true,
                         .query_scalar = true,
                         .attention_softcap_field = true,
                         .logit_softcap_field = true,
                         .default_attention_softcap = 50.0f,
                         .default_logit_softcap = 30.0f};

constexpr Family gemma3() {
  Family family = kGemma2;
  family.architecture = "Gemma3ForCausalLM";
  family.model_type = "gemma3_text";
  family.defaults = {262'208, 2304, 9216, 26, 8, 4, 256, 131'072};
  family.local_period = 6;
  family.local_period_field = family.local_rotary = family.query_key_norm = true;
  family.attention_softcap_field = false;
  family.default_attention_softcap = family.default_logit_softcap = 0.0f;
  return family;
}

constexpr Family kFamilies[] = {
    {.architecture = "LlamaForCausalLM",  // Llama 2 and 3, SmolLM2
     .model_type = "llama",
     .defaults = {32'000, 4096, 11'008, 32, 32, 0, 0, 2048},
     .query_key_value_bias = kAttentionBiasField,
     .output_bias = kAttentionBiasField,
     .feed_forward_bias_field = true},
    {.architecture = "MistralForCausalLM",
     .model_type = "mistral",
     .defaults = {32'000, 4096, 14'336, 32, 32, 8, 0, 131'072},
     .windows = kAllLayers},
    {.architecture = "MinistralForCausalLM",
     .model_type = "ministral",
     .defaults = {32'000, 4096, 14'336, 32, 32, 8, 0, 131'072},
     .windows = kAllLayers},
    {.architecture = "Qwen2ForCausalLM",
     .model_type = "qwen2",
     .defaults = {151'936, 4096, 22'016, 32, 32, 32, 0, 32'768},
     .query_key_value_bias = kAlways,
     .windows = kUpperLayers},
    {.architecture = "Qwen3ForCausalLM",
     .model_type = "qwen3",
     .defaults = {151'936, 4096, 22'016, 32, 32, 32, 128, 32'768},
     .query_key_value_bias = kAttentionBiasField,
     .output_bias = kAttentionBiasField,
     .windows = kUpperLayers,
     .query_key_norm = true},
    {.architecture = "BitNetForCausalLM",  // b1.58 2B4T
     .model_type = "bitnet",
     .defaults = {128'256, 2560, 6912, 30, 20, 5, 0, 2048},
     .default_activation = Activation::kReluSquared,
     .query_key_value_bias = kAttentionBiasField,
     .output_bias = kAttentionBiasField,
     .norms_inside_blocks = true,
     .default_epsilon = 1e-5f,
     .default_rotary_base = 5e5f},
    kGemma2,
    gemma3(),
};

}  // namespace

const Family* find_family(std::string_view architecture) noexcept {
  for (const Family& family : kFamilies) {
    if (family.architecture == architecture) return &family;
  }
  return nullptr;
}

const Family* family_of_config(const Json& config) {
  if (!config.is_object()) return nullptr;
  const auto list = config.find("architectures"), type = config.find("model_type");
  const bool is_named = list != config.end() && !list->is_null() && !(list->is_array() && list->empty());
  if (is_named && !(list->is_array() && list->front().is_string())) return nullptr;
  const Family* const named = is_named ? find_family(list->front().get_ref<const std::string&>()) : nullptr;
  if (is_named && named == nullptr) return nullptr;
  if (type == config.end() || !type->is_string()) return named;
  for (const Family& family : kFamilies) {
    if (family.model_type == type->get_ref<const std::string&>()) return &family;
  }
  return named;
}

std::string supported_architectures() {
  std::string names;
  for (const Family& family : kFamilies) names += fmt::format("{}{}", names.empty() ? "" : ", ", family.architecture);
  return names;
}

}  // namespace tritllm
