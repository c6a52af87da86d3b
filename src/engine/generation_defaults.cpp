#include "engine/generation_defaults.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "core/error.h"

namespace tritllm {

namespace {

constexpr size_t kMostEndTokens = 64;

// The document, or an empty object where the folder has no such file.
Json side_document(const std::vector<SideFile>& files, std::string_view name, const std::string& where) {
  const SideFile* const file = find_side_file(files, name);
  Json document = file == nullptr ? Json::object() : parse_json(file->contents, fmt::format("{}: {}", where, name));
  if (!document.is_object()) throw Error(ErrorCode::kBadInput, fmt::format("{}: {}", where, name), "expected an object");
  return document;
}

// eos_token_id: absent, null, an id, or a list of ids.
void add_end_tokens(const Json& document, size_t vocabulary_size, const std::string& where, std::vector<TokenId>& tokens) {
  const auto found = document.find("eos_token_id");
  if (found == document.end() || found->is_null()) return;
  const Json list = found->is_array() ? *found : Json::array({*found});
  for (const Json& id : list) {
    const bool valid = id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<uint64_t>() < vocabulary_size;
    if (!valid || tokens.size() >= kMostEndTokens) {
      throw Error(ErrorCode::kBadInput, where,
                  fmt::format("'eos_token_id': expected at most {} token ids below {}, found {}", kMostEndTokens, vocabulary_size,
                              printable(found->dump(), 60)));
    }
    const auto token = id.get<TokenId>();
    if (std::find(tokens.begin(), tokens.end(), token) == tokens.end()) tokens.push_back(token);
  }
}

SamplerOptions sampler_options(const Json& document, const std::string& where) {
  SamplerOptions options;  // without a field, the model's own distribution
  const auto real = [&](std::string_view key, float& value, double least, double most) {
    if (const auto found = json_optional_number(document, key, where, least, most)) value = static_cast<float>(*found);
  };
  real("temperature", options.temperature, 0.0, double{kLargestTemperature});
  real("top_p", options.top_p, 0.0, 1.0);
  real("min_p", options.min_p, 0.0, 1.0);
  real("typical_p", options.typical_p, 0.0, 1.0);
  real("repetition_penalty", options.repeat_penalty, double{kSmallestRepeatPenalty}, double{kLargestRepeatPenalty});
  if (options.top_p == 0.0f) options.top_p = 1.0f;  // some files write 0 for "off"
  if (options.typical_p == 0.0f) options.typical_p = 1.0f;
  // transformers takes 50 where a file that asks for sampling names no top_k; what the model's authors tested has it.
  options.top_k = static_cast<uint32_t>(json_optional_integer(document, "top_k", where, 0, UINT32_MAX).value_or(50));
  return options;
}

// A template's text out of "chat_template", which holds it or a list of named ones.
std::optional<std::string> template_text(const Json& document, const std::string& where) {
  const auto found = document.find("chat_template");
  if (found == document.end() || found->is_null()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) throw Error(ErrorCode::kBadInput, where, "'chat_template' is neither a text nor a list");
  for (const Json& entry : *found) {
    if (json_string(entry, "name", where) == "default") return json_string(entry, "template", where);
  }
  return std::nullopt;
}

}  // namespace

const SideFile* find_side_file(const std::vector<SideFile>& files, std::string_view name) noexcept {
  const auto found = std::find_if(files.begin(), files.end(), [&](const SideFile& file) { return file.name == name; });
  return found == files.end() ? nullptr : &*found;
}

SamplerOptions usual_sampler_options() {
  SamplerOptions options;
  options.temperature = 0.8f;
  options.top_k = 40;
  options.top_p = 0.95f;
  options.min_p = 0.05f;
  return options;
}

GenerationDefaults read_generation_defaults(const std::vector<SideFile>& files, const Json& config, size_t vocabulary_size,
                                            const std::string& where) {
  const Json generation = side_document(files, "generation_config.json", where);
  const std::string place = where + ": generation_config.json";
  GenerationDefaults defaults;
  add_end_tokens(generation, vocabulary_size, place, defaults.end_tokens);
  add_end_tokens(config, vocabulary_size, where + ": config.json", defaults.end_tokens);
  defaults.sampler_is_the_models = json_boolean_or(generation, "do_sample", false, place);
  defaults.sampler = defaults.sampler_is_the_models ? sampler_options(generation, place) : usual_sampler_options();
  return defaults;
}

std::string special_token_text(const std::vector<SideFile>& files, std::string_view name, const std::string& where) {
  const Json document = side_document(files, "tokenizer_config.json", where);
  const auto found = document.find(name);
  if (found == document.end() || found->is_null()) return "";
  const std::string place = where + ": tokenizer_config.json";
  return found->is_object() ? json_string(*found, "content", place) : json_string(document, name, place);
}

std::optional<ChatTemplate> find_chat_template(const std::vector<SideFile>& files, const std::string& where) {
  for (const std::string_view name : {"chat_template.jinja", "additional_chat_templates/default.jinja"}) {
    if (const SideFile* const file = find_side_file(files, name)) {
      return ChatTemplate::parse(file->contents, fmt::format("{}: {}", where, name));
    }
  }
  for (const std::string_view name : {"chat_template.json", "tokenizer_config.json"}) {
    const std::string place = fmt::format("{}: {}", where, name);
    if (auto text = template_text(side_document(files, name, where), place)) return ChatTemplate::parse(std::move(*text), place);
  }
  return std::nullopt;
}

}  // namespace tritllm
