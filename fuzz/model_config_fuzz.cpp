// Fuzzes what a model's JSON files say about running it. An input is config.json, generation_config.json, tokenizer_config.json,
// chat_template.json, added_tokens.json and special_tokens_map.json, with bytes 0xff between them. Each must give values that hold
// what the readers promise, or an Error.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "engine/generation_defaults.h"
#include "engine/named_tokens.h"
#include "model/config.h"
#include "scratch_folder.h"

namespace {

using namespace tritllm;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_config(const ModelConfig& model) {
  require(model.family != nullptr);
  require(model.vocabulary > 0 && model.hidden > 0 && model.feed_forward > 0 && model.trained_positions > 0);
  require(model.key_value_heads > 0 && model.heads % model.key_value_heads == 0);
  require(model.head_width > 0 && model.head_width % 2 == 0);
  require(uint64_t{model.heads} * model.head_width == model.query_width());
  require(std::isfinite(model.attention_scale) && model.attention_scale > 0.0f);
  require(model.layers.size() == model.layer_count);
  for (const LayerConfig& layer : model.layers) require(layer.rotary_index < model.rotaries.size());
  for (const RotaryFrequencies& rotary : model.rotaries) {
    require(rotary.inverse_wavelengths.size() == model.head_width / 2 && std::isfinite(rotary.amplitude));
    for (const float frequency : rotary.inverse_wavelengths) require(std::isfinite(frequency) && frequency >= 0.0f);
  }
}

void read_config(std::string_view text) {
  try {
    check_config(read_model_config(parse_json(text, "config.json"), "config.json"));
  } catch (const Error&) {
  }
}

constexpr const char* kTokenizer = R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [
    {"id": 3, "content": "<end>", "special": true, "normalized": false}], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}, "post_processor": null,
    "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}})";

// Tokens that other files name are added so that the tokenizer's parser accepts them, or refuses them by name.
Tokenizer read_tokenizer(std::vector<SideFile> files) {
  files.push_back({"tokenizer.json", kTokenizer});
  const auto added_tokens = completed_added_tokens(files, "fuzz");
  return Tokenizer::parse(kTokenizer, "fuzz", added_tokens ? &**added_tokens : nullptr);
}

void read_defaults(const std::vector<SideFile>& files, std::string_view config) {
  constexpr size_t kVocabulary = 1000;
  try {
    Json document = Json::object();
    if (!config.empty()) document = parse_json(config, "config.json");
    if (!document.is_object()) return;
    const GenerationDefaults defaults =
        read_generation_defaults(files, document, read_tokenizer(files), ChatTemplates::find(files, "fuzz"), kVocabulary, "fuzz");
    for (const TokenId token : defaults.end_tokens) require(token < kVocabulary);
    try {
      validate(defaults.sampler, kVocabulary);
    } catch (const Error&) {
      std::abort();  // settings that were read are settings that can be used
    }
  } catch (const Error&) {
  }
}

template <typename Action>
void ignore_errors(Action&& action) {
  try {
    action();
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = sections({reinterpret_cast<const char*>(data), size});
  const auto part = [&](size_t index) { return index < parts.size() ? std::string(parts[index]) : std::string("{}"); };
  const std::vector<SideFile> files{{"generation_config.json", part(1)},
                                    {"tokenizer_config.json", part(2)},
                                    {"chat_template.json", part(3)},
                                    {"added_tokens.json", part(4)},
                                    {"special_tokens_map.json", part(5)}};
  read_config(parts[0]);
  read_defaults(files, parts[0]);
  ignore_errors([&] { special_token_text(files, "bos_token", "fuzz"); });
  ignore_errors([&] { read_tokenizer(files); });
  ignore_errors([&] { static_cast<void>(ChatTemplates::find(files, "fuzz").choose(/*with_tools=*/true)); });
  return 0;
}
