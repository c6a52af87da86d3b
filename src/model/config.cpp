#include "model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "model/families.h"
#include "model/rotary.h"

namespace tritllm {

namespace {

// Far beyond any model there is; small enough that no product of two of them, times four bytes, overflows.
constexpr uint64_t kMostWidth = 1 << 20, kMostVocabulary = 1 << 24, kMostLayers = 4096, kMostHeads = 1 << 14,
                   kMostHeadWidth = 1 << 14;
constexpr uint64_t kMostPositions = 1 << 30;
constexpr uint32_t kDefaultWindow = 4096;

const Family& family_of(const Json& config, const std::string& where) {
  const Json& list = json_field(config, "architectures", where);
  if (!list.is_array() || list.empty() || !list[0].is_string()) {
    throw Error(ErrorCode::kBadInput, where, "'architectures' is no list of names");
  }
  const auto name = list[0].get<std::string>();
  if (const Family* const family = find_family(name)) return *family;
  throw Error(ErrorCode::kUnsupported, where, fmt::format("architecture '{}'", printable(name)),
              "the engine runs " + supported_architectures());
}

uint32_t integer(const Json& config, std::string_view key, const std::string& where, uint64_t least, uint64_t most) {
  return static_cast<uint32_t>(json_integer(config, key, where, least, most));
}

Activation activation_of(const Json& config, const Family& family, const std::string& where) {
  // Older Gemma files say it in "hidden_act".
  const auto name = json_optional_string(config, family.activation_field, where)
                        .value_or(json_optional_string(config, "hidden_act", where).value_or(""));
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new" || name == "gelu_fast") return Activation::kGeluTanh;
  if (name == "gelu") return Activation::kGeluErf;
  throw Error(ErrorCode::kUnsupported, where, fmt::format("'{}' is '{}'", family.activation_field, printable(name)),
              "the engine knows silu, gelu and gelu_pytorch_tanh");
}

bool has_bias(BiasRule rule, const Json& config, const std::string& where) {
  if (rule == BiasRule::kAttentionBiasField) return json_boolean_or(config, "attention_bias", false, where);
  return rule == BiasRule::kAlways;
}

float softcap_of(const Json& config, std::string_view key, const std::string& where) {
  return static_cast<float>(json_optional_number(config, key, where, 1e-3, 1e6).value_or(0.0));
}

// Whether each layer sees only a window.
std::vector<bool> windowed_layers(const Json& config, const ModelConfig& model, const std::string& where) {
  const uint32_t count = model.layer_count;
  const auto types = config.find("layer_types");
  if (model.family->windows >= WindowRule::kUpperLayers && types != config.end() && !types->is_null()) {
    if (!types->is_array() || types->size() != count) {
      throw Error(ErrorCode::kBadInput, where, fmt::format("'layer_types' is no list of {} names", count));
    }
    std::vector<bool> windowed;
    for (const Json& type : *types) {
      if (type != "full_attention" && type != "sliding_attention") {
        throw Error(ErrorCode::kUnsupported, where, fmt::format("layer type {}", printable(type.dump())),
                    "the engine knows full_attention and sliding_attention");
      }
      windowed.push_back(type == "sliding_attention");
    }
    return windowed;
  }
  std::vector<bool> windowed(count, false);
  if (model.family->windows == WindowRule::kAllLayers) windowed.assign(count, true);
  if (model.family->windows == WindowRule::kUpperLayers && json_boolean_or(config, "use_sliding_window", false, where)) {
    const uint64_t first = json_optional_integer(config, "max_window_layers", where, 0, kMostLayers).value_or(28);
    for (uint32_t layer = 0; layer < count; ++layer) windowed[layer] = layer >= first;
  }
  if (model.family->windows == WindowRule::kLocalLayers) {
    const uint64_t period =
        json_optional_integer(config, "sliding_window_pattern", where, 1, kMostLayers).value_or(model.family->local_period);
    for (uint32_t layer = 0; layer < count; ++layer) windowed[layer] = (layer + 1) % period != 0;
  }
  return windowed;
}

// The window's width; 0 where layers that could have one see everything.
uint32_t window_of(const Json& config, WindowRule rule, const std::string& where) {
  if (rule == WindowRule::kNone) return 0;
  if (rule == WindowRule::kUpperLayers && !json_boolean_or(config, "use_sliding_window", false, where)) return 0;
  if (!config.contains("sliding_window") && rule != WindowRule::kLocalLayers) return kDefaultWindow;
  return static_cast<uint32_t>(json_optional_integer(config, "sliding_window", where, 1, kMostPositions).value_or(0));
}

void read_layers(const Json& config, ModelConfig& model, const std::string& where) {
  const Family& family = *model.family;
  const auto frequencies = [&](const RotarySettings& settings) {
    return read_rotary_frequencies(config, settings, model.head_width, model.trained_positions, where);
  };
  const float global_theta = family.local_rotary ? 1e6f : 1e4f;
  model.rotaries.push_back(frequencies({"full_attention", "rope_theta", global_theta, true}));
  if (family.local_rotary) model.rotaries.push_back(frequencies({"sliding_attention", "rope_local_base_freq", 1e4f, false}));

  const std::vector<bool> windowed = windowed_layers(config, model, where);
  const uint32_t window = window_of(config, family.windows, where);
  for (const bool with_window : windowed) {
    model.layers.push_back({with_window ? window : 0, with_window && family.local_rotary ? 1u : 0u});
  }
}

void read_sizes(const Json& config, ModelConfig& model, const std::string& where) {
  model.vocabulary = integer(config, "vocab_size", where, 1, kMostVocabulary);
  model.hidden = integer(config, "hidden_size", where, 1, kMostWidth);
  model.feed_forward = integer(config, "intermediate_size", where, 1, kMostWidth);
  model.layer_count = integer(config, "num_hidden_layers", where, 1, kMostLayers);
  model.heads = integer(config, "num_attention_heads", where, 1, kMostHeads);
  model.key_value_heads =
      static_cast<uint32_t>(json_optional_integer(config, "num_key_value_heads", where, 1, kMostHeads).value_or(model.heads));
  model.trained_positions = integer(config, "max_position_embeddings", where, 1, kMostPositions);
  const uint32_t usual = model.family->default_head_width != 0 ? model.family->default_head_width : model.hidden / model.heads;
  model.head_width = static_cast<uint32_t>(json_optional_integer(config, "head_dim", where, 2, kMostHeadWidth).value_or(usual));
  if (model.heads % model.key_value_heads != 0) {
    throw Error(ErrorCode::kBadInput, where,
                fmt::format("{} attention heads cannot share {} key/value heads", model.heads, model.key_value_heads));
  }
  if (model.head_width == 0 || model.head_width % 2 != 0) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("a head of {} elements has no rotary halves", model.head_width));
  }
  if (uint64_t{model.heads} * model.head_width > kMostWidth) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("{} heads of {} elements are too wide", model.heads, model.head_width));
  }
}

void refuse_other_graphs(const Json& config, const std::string& where) {
  if (json_boolean_or(config, "use_bidirectional_attention", false, where)) {
    throw Error(ErrorCode::kUnsupported, where, "'use_bidirectional_attention' is true", "the engine generates text");
  }
}

}  // namespace

ModelConfig read_model_config(const Json& config, const std::string& where) {
  if (!config.is_object()) throw Error(ErrorCode::kBadInput, where, "expected an object");
  ModelConfig model{};
  const Family& family = family_of(config, where);
  model.family = &family;
  refuse_other_graphs(config, where);
  read_sizes(config, model, where);
  model.norm_epsilon = static_cast<float>(json_optional_number(config, "rms_norm_eps", where, 0.0, 1.0).value_or(1e-6));
  model.activation = activation_of(config, family, where);
  model.embedding_scale = family.embedding_scaled ? std::sqrt(static_cast<float>(model.hidden)) : 1.0f;
  const double scalar = family.query_scalar
                            ? json_optional_number(config, "query_pre_attn_scalar", where, 1e-6, 1e9).value_or(256.0)
                            : double{static_cast<float>(model.head_width)};
  model.attention_scale = static_cast<float>(1.0 / std::sqrt(scalar));
  if (family.attention_softcap) model.attention_softcap = softcap_of(config, "attn_logit_softcapping", where);
  model.logit_softcap = softcap_of(config, "final_logit_softcapping", where);
  model.query_key_value_biases = has_bias(family.query_key_value_bias, config, where);
  model.output_bias = has_bias(family.output_bias, config, where);
  model.feed_forward_biases = family.feed_forward_bias_field && json_boolean_or(config, "mlp_bias", false, where);
  model.tied_head = json_boolean_or(config, "tie_word_embeddings", family.tied_by_default, where);
  read_layers(config, model, where);
  return model;
}

}  // namespace tritllm
