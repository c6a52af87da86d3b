#include "io/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/error.h"
#include "core/json.h"
#include "io/gguf_rope.h"

namespace tritllm {
namespace {

constexpr float kDefaultTheta = 10000.0f;      // what readers of the format assume where the key is absent
constexpr uint64_t kGemma3GlobalPeriod = 6;    // five layers with a window, then one without
constexpr uint64_t kGemma3LargestLayers = 62;  // of the 27B model, the only one whose query scale is not the head dimension

float rope_theta_of(const GgufFile& file, std::string_view suffix) {
  const std::string key = architecture_key(file, suffix);
  const float theta = file.real(key).value_or(kDefaultTheta);
  if (theta > 0.0f) return theta;
  throw Error(ErrorCode::kBadInput, fmt::format("{}: key '{}'", file.where(), key), "expected a positive base");
}

float norm_epsilon_of(const GgufFile& file) {
  const std::string key = architecture_key(file, "attention.layer_norm_rms_epsilon");
  const auto epsilon = file.real(key);
  if (!epsilon || *epsilon < 0.0f) {
    throw Error(ErrorCode::kBadInput, file.where(), fmt::format("the key '{}' is missing or negative", key));
  }
  return *epsilon;
}

// The type in which most weights lie, or float16 for quantised ones: what the weights should be loaded as.
std::string_view dtype_of(std::span<const SourceTensor> tensors) {
  uint64_t float32 = 0, bfloat16 = 0, others = 0;
  for (const SourceTensor& tensor : tensors) {
    uint64_t& count = tensor.type == ElementType::kF32 || tensor.type == ElementType::kF64 ? float32
                      : tensor.type == ElementType::kBF16                                  ? bfloat16
                                                                                           : others;
    count += tensor.elements();
  }
  if (others >= float32 && others >= bfloat16) return "float16";
  return bfloat16 >= float32 ? "bfloat16" : "float32";
}

void refuse_window(const GgufFile& file, const GgufDimensions& dimensions) {
  const std::string key = architecture_key(file, "attention.sliding_window");
  const uint64_t window = file.integer(key).value_or(0);
  if (window == 0 || window >= dimensions.context) return;
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: key '{}'", file.where(), key),
              fmt::format("a window of {} tokens is not read for this architecture", window), "use the model's original folder");
}

Json json_id(std::optional<uint64_t> id) { return id ? Json(*id) : Json(nullptr); }

// One attention type a layer: by a list of truth values (true: with a window), by a period, or by the family's habit.
Json gemma3_layer_types(const GgufFile& file, const GgufDimensions& dimensions, bool has_window) {
  const std::string key = architecture_key(file, "attention.sliding_window_pattern");
  std::vector<bool> windowed;
  if (file.is_array(key)) {
    windowed = *file.booleans(key);
    if (windowed.size() != dimensions.layers) {
      throw Error(ErrorCode::kBadInput, fmt::format("{}: key '{}'", file.where(), key),
                  fmt::format("expected {} elements", dimensions.layers));
    }
  } else {
    const uint64_t period = file.integer(key).value_or(kGemma3GlobalPeriod);
    for (uint64_t layer = 0; layer < dimensions.layers; ++layer) windowed.push_back(period == 0 || (layer + 1) % period != 0);
  }
  Json types = Json::array();
  for (const bool with_window : windowed) types.push_back(with_window && has_window ? "sliding_attention" : "full_attention");
  return types;
}

struct SamplingRow {
  std::string_view key, field;
  bool is_integer;
};
constexpr SamplingRow kSampling[] = {
    {"general.sampling.temp", "temperature", false},
    {"general.sampling.top_k", "top_k", true},
    {"general.sampling.top_p", "top_p", false},
    {"general.sampling.min_p", "min_p", false},
    {"general.sampling.penalty_repeat", "repetition_penalty", false},
};

}  // namespace

Json json_real(float value) { return Json::parse(fmt::format("{}", value)).get<double>(); }

Json config_of(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions, const GgufOptionalParts& parts,
               const GgufTokenIds& ids, std::span<const SourceTensor> tensors) {
  if (family.windows_every_layer_alike) refuse_window(file, dimensions);
  const float theta = rope_theta_of(file, "rope.freq_base");
  Json config = {
      {"architectures", Json::array({family.model_class})},
      {"model_type", family.model_type},
      {"vocab_size", dimensions.vocabulary},
      {"hidden_size", dimensions.hidden},
      {"intermediate_size", dimensions.feed_forward},
      {"num_hidden_layers", dimensions.layers},
      {"num_attention_heads", dimensions.heads},
      {"num_key_value_heads", dimensions.key_value_heads},
      {"head_dim", dimensions.head_dimension},
      {"max_position_embeddings", dimensions.context},
      {"rms_norm_eps", json_real(norm_epsilon_of(file))},
      {"rope_theta", json_real(theta)},
      {"rope_scaling", rope_scaling_of(file, dimensions, theta)},
      {"tie_word_embeddings", !parts.head},
      {"bos_token_id", json_id(ids.bos)},
      {"eos_token_id", json_id(ids.eos)},
      {"pad_token_id", json_id(ids.pad)},
      {"torch_dtype", dtype_of(tensors)},
  };
  family.add_config(file, dimensions, parts, config);
  return config;
}

Json generation_config_of(const GgufFile& file, const GgufTokenIds& ids) {
  Json config = Json::object();
  if (ids.bos) config["bos_token_id"] = *ids.bos;
  if (ids.ends.size() == 1) config["eos_token_id"] = ids.ends.front();
  if (ids.ends.size() > 1) config["eos_token_id"] = ids.ends;
  if (ids.pad) config["pad_token_id"] = *ids.pad;
  for (const SamplingRow& row : kSampling) {
    if (!file.has(row.key)) continue;
    config["do_sample"] = true;
    config[std::string(row.field)] =
        row.is_integer ? Json(*file.integer(row.key, kLargestJsonInteger)) : json_real(*file.real(row.key));
  }
  return config;
}

void add_llama_config(const GgufFile&, const GgufDimensions&, const GgufOptionalParts& parts, Json& config) {
  config["hidden_act"] = "silu";
  config["attention_bias"] = parts.attention_biases;
  config["mlp_bias"] = parts.feed_forward_biases;
}

void add_qwen2_config(const GgufFile&, const GgufDimensions&, const GgufOptionalParts&, Json& config) {
  config["hidden_act"] = "silu";
  config["use_sliding_window"] = false;
}

void add_qwen3_config(const GgufFile&, const GgufDimensions&, const GgufOptionalParts& parts, Json& config) {
  config["hidden_act"] = "silu";
  config["attention_bias"] = parts.attention_biases;
  config["use_sliding_window"] = false;
}

void add_gemma3_config(const GgufFile& file, const GgufDimensions& dimensions, const GgufOptionalParts&, Json& config) {
  config["hidden_activation"] = "gelu_pytorch_tanh";
  config["attention_bias"] = false;
  config["attn_logit_softcapping"] = nullptr;
  const auto cap = file.real(architecture_key(file, "final_logit_softcapping"));
  config["final_logit_softcapping"] = cap && *cap > 0.0f ? json_real(*cap) : Json(nullptr);
  config["query_pre_attn_scalar"] =
      dimensions.layers == kGemma3LargestLayers ? dimensions.hidden / dimensions.heads : dimensions.head_dimension;
  config["rope_local_base_freq"] = json_real(rope_theta_of(file, "rope.freq_base_swa"));
  const uint64_t window = file.integer(architecture_key(file, "attention.sliding_window"), kLargestJsonInteger).value_or(0);
  if (window != 0) config["sliding_window"] = window;
  config["layer_types"] = gemma3_layer_types(file, dimensions, window != 0);
}

}  // namespace tritllm
