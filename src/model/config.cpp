// Owns the reading of config.json into a ModelConfig: each field honoured as transformers' configuration class of the family does,
// or refused by name. What a class never reads is not read here.
#include "model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "io/quantised_source.h"
#include "io/tied_head.h"
#include "model/families.h"
#include "model/rotary.h"

namespace tritllm {

namespace {

// Far beyond any model there is; small enough that no product of two of them, times four bytes, overflows.
constexpr uint64_t kMostWidth = 1 << 20, kMostVocabulary = 1 << 24, kMostLayers = 4096, kMostHeads = 1 << 14,
                   kMostHeadWidth = 1 << 14;
constexpr uint64_t kMostPositions = 1 << 30;
constexpr uint32_t kDefaultWindow = 4096, kDefaultFirstWindowedLayer = 28;
constexpr double kDefaultQueryScalar = 256.0;

const Family& family_of(const JsonView& config) {
  if (const Family* const family = family_of_config(config.json())) return *family;
  const auto list = config.optional_child("architectures");
  if (list && !(list->json().is_array() && list->json().empty())) {
    if (!list->json().is_array()) list->refuse("a list with the name of the model's architecture");
    throw Error(ErrorCode::kUnsupported, config.where(), fmt::format("architecture '{}'", printable(list->items().front().text())),
                "the engine runs " + supported_architectures());
  }
  const auto type = config.optional_text("model_type");
  throw Error(type ? ErrorCode::kUnsupported : ErrorCode::kBadInput, config.where(),
              type ? fmt::format("names no architecture, and the model_type '{}'", printable(*type))
                   : "names neither its architecture ('architectures') nor its model_type",
              "the engine runs " + supported_architectures());
}

// A size that the family's class has a default for. A null is refused: no class takes it.
uint32_t size_or(const JsonView& config, std::string_view key, uint32_t fallback, uint64_t most) {
  if (!config.json().contains(key)) return fallback;
  return static_cast<uint32_t>(config.integer(key, 1, most));
}

Activation activation_of(const JsonView& config, const Family& family) {
  static constexpr std::array<std::pair<std::string_view, Activation>, 10> kNames{{{"silu", Activation::kSilu},
                                                                                   {"swish", Activation::kSilu},
                                                                                   {"gelu", Activation::kGeluErf},
                                                                                   {"gelu_python", Activation::kGeluErf},
                                                                                   {"gelu_pytorch_tanh", Activation::kGeluTanh},
                                                                                   {"gelu_python_tanh", Activation::kGeluTanh},
                                                                                   {"gelu_new", Activation::kGeluTanh},
                                                                                   {"gelu_fast", Activation::kGeluTanh},
                                                                                   {"gelu_accurate", Activation::kGeluTanh},
                                                                                   {"relu2", Activation::kReluSquared}}};
  const auto name = config.optional_text(family.activation_field);
  if (!name) return family.default_activation;
  const auto* const found = std::ranges::find(kNames, *name, [](const auto& row) { return row.first; });
  if (found != kNames.end()) return found->second;
  throw Error(ErrorCode::kUnsupported, config.child(family.activation_field).where(),
              fmt::format("the activation '{}'", printable(*name)), "the engine knows silu, gelu, gelu_pytorch_tanh and relu2");
}

bool has_bias(BiasRule rule, const JsonView& config) {
  if (rule == BiasRule::kAttentionBiasField) return config.optional_boolean("attention_bias").value_or(false);
  return rule == BiasRule::kAlways;
}

// Absent: the family's; null: none.
float softcap_of(const JsonView& config, std::string_view key, float fallback) {
  if (!config.json().contains(key)) return fallback;
  return static_cast<float>(config.optional_number(key, 1e-3, 1e6).value_or(0.0));
}

bool is_windowed(const JsonView& type) {
  const std::string name = type.text();
  if (name == "sliding_attention") return true;
  if (name == "full_attention" || name == "attention") return false;
  throw Error(ErrorCode::kUnsupported, type.where(), fmt::format("layer type '{}'", printable(name)),
              "the engine knows full_attention and sliding_attention");
}

// Which layers see only a window, where config.json lists them.
std::optional<std::vector<bool>> listed_windows(const JsonView& config, uint32_t layers) {
  const auto list = config.optional_child("layer_types");
  if (!list) return std::nullopt;
  const std::vector<JsonView> types = list->items();
  if (types.size() != layers) list->refuse(fmt::format("a list of {} names, one for each layer", layers));
  std::vector<bool> windowed;
  for (const JsonView& type : types) windowed.push_back(is_windowed(type));
  return windowed;
}

// The window's width; 0 where the config has none.
uint32_t window_of(const JsonView& config, const Family& family) {
  if (family.windows == WindowRule::kUpperLayers && !config.optional_boolean("use_sliding_window").value_or(false)) return 0;
  if (!config.json().contains("sliding_window")) return kDefaultWindow;
  return static_cast<uint32_t>(config.optional_integer("sliding_window", 1, kMostPositions).value_or(0));
}

std::vector<bool> windows_by_rule(const JsonView& config, const Family& family, uint32_t layers, uint32_t window) {
  std::vector<bool> windowed(layers, false);
  if (family.windows == WindowRule::kAllLayers) windowed.assign(layers, window != 0);
  if (family.windows == WindowRule::kUpperLayers && window != 0) {
    const uint64_t first = config.optional_integer("max_window_layers", 0, kMostLayers).value_or(kDefaultFirstWindowedLayer);
    for (uint32_t layer = 0; layer < layers; ++layer) windowed[layer] = layer >= first;
  }
  if (family.windows == WindowRule::kLocalLayers) {
    const auto given = family.local_period_field ? config.optional_integer("sliding_window_pattern", 1, kMostLayers) : std::nullopt;
    const uint64_t period = given.value_or(family.local_period);
    for (uint32_t layer = 0; layer < layers; ++layer) windowed[layer] = (layer + 1) % period != 0;
  }
  return windowed;
}

void read_layers(const JsonView& config, ModelConfig& model) {
  const Family& family = *model.family;
  const auto add_rotary = [&](const RotarySettings& settings) {
    model.rotaries.push_back(read_rotary_frequencies(config, settings, model.head_width, model.trained_positions));
  };
  const bool each = family.local_rotary;
  add_rotary({"full_attention", "rope_theta", each ? 1e6f : family.default_rotary_base, true, each});
  if (each) add_rotary({"sliding_attention", "rope_local_base_freq", 1e4f, false, each});

  model.layers.assign(model.layer_count, {});
  if (family.windows == WindowRule::kNone) return;
  const uint32_t window = window_of(config, family);
  const auto listed = listed_windows(config, model.layer_count);
  const std::vector<bool> windowed = listed ? *listed : windows_by_rule(config, family, model.layer_count, window);
  if (window == 0 && std::ranges::find(windowed, true) != windowed.end()) {
    throw Error(ErrorCode::kBadInput, config.where(), "has layers with a window, but no width for it",
                "state 'sliding_window' (and 'use_sliding_window': true, where the architecture has it), or make all layer_types "
                "full_attention");
  }
  for (uint32_t layer = 0; layer < model.layer_count; ++layer) {
    if (windowed[layer]) model.layers[layer] = {window, each ? 1u : 0u};
  }
}

void read_sizes(const JsonView& config, ModelConfig& model) {
  const FamilySizes& usual = model.family->defaults;
  model.vocabulary = size_or(config, "vocab_size", usual.vocabulary, kMostVocabulary);
  model.hidden = size_or(config, "hidden_size", usual.hidden, kMostWidth);
  model.feed_forward = size_or(config, "intermediate_size", usual.feed_forward, kMostWidth);
  model.layer_count = size_or(config, "num_hidden_layers", usual.layers, kMostLayers);
  model.heads = size_or(config, "num_attention_heads", usual.heads, kMostHeads);
  model.trained_positions = size_or(config, "max_position_embeddings", usual.positions, kMostPositions);
  // A null means as many as heads, also where the family's default is another number.
  const bool has_sharing = config.json().contains("num_key_value_heads");
  const uint32_t shared = has_sharing || usual.key_value_heads == 0 ? model.heads : usual.key_value_heads;
  model.key_value_heads = static_cast<uint32_t>(config.optional_integer("num_key_value_heads", 1, kMostHeads).value_or(shared));
  const uint32_t width = usual.head_width != 0 ? usual.head_width : model.hidden / model.heads;
  model.head_width = static_cast<uint32_t>(config.optional_integer("head_dim", 2, kMostHeadWidth).value_or(width));
  if (model.heads % model.key_value_heads != 0) {
    throw Error(ErrorCode::kBadInput, config.where(),
                fmt::format("{} attention heads cannot share {} key/value heads", model.heads, model.key_value_heads));
  }
  if (model.head_width == 0 || model.head_width % 2 != 0) {
    throw Error(ErrorCode::kBadInput, config.where(), fmt::format("a head of {} elements has no rotary halves", model.head_width));
  }
  if (uint64_t{model.heads} * model.head_width > kMostWidth) {
    throw Error(ErrorCode::kBadInput, config.where(),
                fmt::format("{} heads of {} elements are too wide", model.heads, model.head_width));
  }
}

// Fields of transformers' base class that turn any decoder into another graph.
void refuse_other_graphs(const JsonView& config) {
  if (config.optional_boolean("use_bidirectional_attention").value_or(false)) {
    throw Error(ErrorCode::kUnsupported, config.where(), "'use_bidirectional_attention' is true", "the engine generates text");
  }
  if (!config.optional_boolean("is_causal").value_or(true)) {
    throw Error(ErrorCode::kUnsupported, config.where(), "'is_causal' is false", "the engine generates text");
  }
  if (config.has("per_layer_config")) {
    throw Error(ErrorCode::kUnsupported, config.where(), "'per_layer_config' gives layers sizes of their own",
                "the engine runs models whose layers are alike");
  }
}

}  // namespace

DecoderShape ModelConfig::decoder_shape() const noexcept {
  return {.vocabulary = vocabulary,
          .hidden = hidden,
          .feed_forward = feed_forward,
          .layers = layer_count,
          .query_width = query_width(),
          .key_value_width = key_value_width(),
          .head_width = head_width,
          .query_key_value_biases = query_key_value_biases,
          .output_bias = output_bias,
          .feed_forward_biases = feed_forward_biases,
          .query_key_norm = family->query_key_norm,
          .norms_after_blocks = family->norms_after_blocks,
          .norms_inside_blocks = family->norms_inside_blocks,
          .own_head = !tied_head};
}

ModelConfig read_model_config(const Json& json, const std::string& where) {
  const JsonView config(json, where);
  if (!json.is_object()) config.refuse("a JSON object");
  ModelConfig model{};
  const Family& family = family_of(config);
  model.family = &family;
  refuse_other_graphs(config);
  read_sizes(config, model);
  model.norm_epsilon =
      static_cast<float>(config.optional_number("rms_norm_eps", 0.0, 1.0).value_or(double{family.default_epsilon}));
  model.activation = activation_of(config, family);
  model.embedding_scale = family.embedding_scaled ? std::sqrt(static_cast<float>(model.hidden)) : 1.0f;
  const double scalar = family.query_scalar
                            ? config.optional_number("query_pre_attn_scalar", 1e-6, 1e9).value_or(kDefaultQueryScalar)
                            : double{static_cast<float>(model.head_width)};
  model.attention_scale = static_cast<float>(1.0 / std::sqrt(scalar));
  if (family.attention_softcap_field) {
    model.attention_softcap = softcap_of(config, "attn_logit_softcapping", family.default_attention_softcap);
  }
  if (family.logit_softcap_field) {
    model.logit_softcap = softcap_of(config, "final_logit_softcapping", family.default_logit_softcap);
  }
  model.query_key_value_biases = has_bias(family.query_key_value_bias, config);
  model.output_bias = has_bias(family.output_bias, config);
  model.feed_forward_biases = family.feed_forward_bias_field && config.optional_boolean("mlp_bias").value_or(false);
  model.tied_head = config.optional_boolean("tie_word_embeddings").value_or(ties_head_by_default(family.architecture));
  model.rounds_activations = config.optional_integer(kActivationBitsField, 8, 8).has_value();
  read_layers(config, model);
  return model;
}

}  // namespace tritllm
