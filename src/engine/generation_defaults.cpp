#include "engine/generation_defaults.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <utility>
#include <variant>

#include "core/error.h"
#include "engine/named_tokens.h"

namespace tritllm {

namespace {

constexpr size_t kMostEndTokens = 64;

// The document, or an empty object where the folder has no such file.
Json side_document(const std::vector<SideFile>& files, std::string_view name, const std::string& where) {
  const SideFile* const file = find_side_file(files, name);
  Json document = file == nullptr ? Json::object() : parse_python_json(file->contents, fmt::format("{}: {}", where, name));
  if (!document.is_object()) throw Error(ErrorCode::kBadInput, fmt::format("{}: {}", where, name), "expected an object");
  return document;
}

// Adds ids to the list, each once.
class EndTokens {
 public:
  EndTokens(size_t vocabulary_size, GenerationDefaults& defaults) : vocabulary_size_(vocabulary_size), defaults_(defaults) {}

  void add(TokenId token) {
    if (std::ranges::find(defaults_.end_tokens, token) == defaults_.end_tokens.end()) defaults_.end_tokens.push_back(token);
  }

  // eos_token_id: absent, null, an id, or a list of ids. One that the model has no row for never comes up.
  void add_of(const Json& document, const std::string& place) {
    const auto found = document.find("eos_token_id");
    if (found == document.end() || found->is_null()) return;
    const Json list = found->is_array() ? *found : Json::array({*found});
    if (list.size() > kMostEndTokens || !std::ranges::all_of(list, &Json::is_number_integer)) {
      throw Error(
          ErrorCode::kBadInput, place,
          fmt::format("'eos_token_id': expected at most {} token ids, found {}", kMostEndTokens, printable(found->dump(), 60)));
    }
    for (const Json& id : list) {
      if (id.get<int64_t>() >= 0 && id.get<uint64_t>() < vocabulary_size_) {
        add(id.get<TokenId>());
      } else {
        defaults_.warnings.push_back(
            fmt::format("{}: 'eos_token_id' {} is ignored: the model has {} tokens", place, id.dump(), vocabulary_size_));
      }
    }
  }

  void add_named(const Tokenizer& tokenizer, const std::string& content) {
    const std::optional<TokenId> token = tokenizer.token_id(content);
    if (token && *token < vocabulary_size_) add(*token);
  }

 private:
  size_t vocabulary_size_;
  GenerationDefaults& defaults_;
};

// Fields by which transformers changes what a model answers, and their values that change nothing beside null. The engine honours
// none of them.
struct UnknownRule {
  std::string_view field;
  double idle = 0;
};
constexpr UnknownRule kUnknownRules[] = {{"suppress_tokens"},
                                         {"begin_suppress_tokens"},
                                         {"bad_words_ids"},
                                         {"force_words_ids"},
                                         {"forced_bos_token_id"},
                                         {"forced_eos_token_id"},
                                         {"sequence_bias"},
                                         {"stop_strings"},
                                         {"constraints"},
                                         {"min_length"},
                                         {"min_new_tokens"},
                                         {"no_repeat_ngram_size"},
                                         {"encoder_no_repeat_ngram_size"},
                                         {"encoder_repetition_penalty", 1},
                                         {"num_beams", 1},
                                         {"num_beam_groups", 1},
                                         {"diversity_penalty"},
                                         {"penalty_alpha"},
                                         {"epsilon_cutoff"},
                                         {"eta_cutoff"},
                                         {"top_h"},
                                         {"guidance_scale", 1},
                                         {"dola_layers"},
                                         {"exponential_decay_length_penalty"},
                                         {"watermarking_config"},
                                         {"token_healing"}};

void warn_of_unknown_rules(const Json& generation, const std::string& place, std::vector<std::string>& warnings) {
  for (const UnknownRule& rule : kUnknownRules) {
    const auto found = generation.find(rule.field);
    if (found == generation.end() || found->is_null() || (found->is_structured() && found->empty())) continue;
    const double value = found->is_number() ? found->get<double>() : found->is_boolean() && !found->get<bool>() ? 0.0 : -1.0;
    if (value == rule.idle) continue;
    warnings.push_back(fmt::format("{}: '{}' is ignored: the engine has no such rule", place, rule.field));
  }
}

// Names under which chat formats end a turn.
constexpr std::array<std::string_view, 10> kTurnEnds{"<|im_end|>",         "<|eot_id|>",
                                                     "<|eom_id|>",         "<|end|>",
                                                     "<end_of_turn>",      "<|endoftext|>",
                                                     "<|end_of_text|>",    "<|END_OF_TURN_TOKEN|>",
                                                     "<end_of_utterance>", "<\uff5cend\u2581of\u2581sentence\uff5c>"};

void add_turn_ends(const Tokenizer& tokenizer, std::string_view chat_template, EndTokens& end_tokens) {
  // In the Harmony format "<|end|>" ends one message of several, "<|return|>" the answer.
  const bool harmony = chat_template.find("<|return|>") != chat_template.npos;
  for (const std::string_view name : kTurnEnds) {
    if (chat_template.find(name) == chat_template.npos || (harmony && name == "<|end|>")) continue;
    const std::optional<TokenId> token = tokenizer.token_id(name);
    if (token && tokenizer.is_special(*token)) end_tokens.add_named(tokenizer, std::string(name));
  }
}

SamplerOptions sampler_options(const JsonView& generation) {
  SamplerOptions options;  // without a field, the model's own distribution
  for (const SamplerField& field : sampler_fields()) {
    const auto* const member = std::get_if<float SamplerOptions::*>(&field.member);
    if (member == nullptr || field.name.ends_with("presence_penalty") || field.name == "frequency_penalty") continue;
    const std::string_view key = field.name == "repeat_penalty" ? "repetition_penalty" : field.name;
    if (const auto found = generation.optional_number(key, field.least, field.most)) {
      options.** member = static_cast<float>(*found);
    }
  }
  if (options.top_p == 0.0f) options.top_p = 1.0f;  // some files write 0 for "off"
  if (options.typical_p == 0.0f) options.typical_p = 1.0f;
  // transformers takes 50 where a file that asks for sampling names no top_k; what the model's authors tested has it.
  options.top_k = static_cast<uint32_t>(generation.optional_integer("top_k", 0, UINT32_MAX).value_or(50));
  return options;
}

using NamedTexts = std::map<std::string, std::string, std::less<>>;

// "chat_template" of a JSON document: a text, a list of {name, template}, or texts by name.
NamedTexts templates_in(const Json& document, const std::string& where) {
  NamedTexts texts;
  const auto found = document.find("chat_template");
  if (found == document.end() || found->is_null()) return texts;
  if (found->is_string()) {
    texts["default"] = found->get<std::string>();
  } else if (found->is_array()) {
    for (const JsonView& entry : JsonView(*found, where).items()) texts[entry.text("name")] = entry.text("template");
  } else if (found->is_object()) {
    for (const auto& [name, text] : found->items()) {
      if (!text.is_string())
        throw Error(ErrorCode::kBadInput, where, fmt::format("'chat_template': '{}' is not a text", printable(name, 60)));
      texts[name] = text.get<std::string>();
    }
  } else {
    throw Error(ErrorCode::kBadInput, where, "'chat_template' is neither a text nor texts by name");
  }
  return texts;
}

NamedTexts templates_in_files(const std::vector<SideFile>& files) {
  constexpr std::string_view kFolder = "additional_chat_templates/", kEnding = ".jinja";
  NamedTexts texts;
  if (const SideFile* const file = find_side_file(files, "chat_template.jinja")) texts["default"] = file->contents;
  for (const SideFile& file : files) {
    if (!file.name.starts_with(kFolder) || !file.name.ends_with(kEnding)) continue;
    texts[file.name.substr(kFolder.size(), file.name.size() - kFolder.size() - kEnding.size())] = file.contents;
  }
  return texts;
}

}  // namespace

SamplerOptions usual_sampler_options() {
  SamplerOptions options;
  options.temperature = 0.8f;
  options.top_k = 40;
  options.top_p = 0.95f;
  options.min_p = 0.05f;
  return options;
}

GenerationDefaults read_generation_defaults(const std::vector<SideFile>& files, const Json& config, const Tokenizer& tokenizer,
                                            const ChatTemplates& templates, size_t vocabulary_size, const std::string& where) {
  const Json generation = side_document(files, "generation_config.json", where);
  const std::string place = where + ": generation_config.json";
  GenerationDefaults defaults;
  EndTokens end_tokens(vocabulary_size, defaults);
  end_tokens.add_of(generation, place);
  end_tokens.add_of(config, where + ": config.json");
  if (const auto text = config.find("text_config"); text != config.end() && text->is_object()) {
    end_tokens.add_of(*text, where + ": config.json: text_config");
  }
  end_tokens.add_named(tokenizer, special_token_text(files, "eos_token", where));
  add_turn_ends(tokenizer, templates.source(/*with_tools=*/!templates.has_default()), end_tokens);
  warn_of_unknown_rules(generation, place, defaults.warnings);
  defaults.sampler_is_the_models = JsonView(generation, place).boolean_or("do_sample", false);
  defaults.sampler = defaults.sampler_is_the_models ? sampler_options(JsonView(generation, place)) : usual_sampler_options();
  return defaults;
}

ChatTemplates ChatTemplates::find(const std::vector<SideFile>& files, const std::string& where) {
  ChatTemplates templates;
  templates.where_ = where;
  templates.sources_ = templates_in_files(files);
  std::string place = where + ": chat_template.jinja";
  for (const std::string_view name : {"tokenizer_config.json", "chat_template.json"}) {
    if (!templates.sources_.empty()) break;
    place = fmt::format("{}: {}", where, name);
    templates.sources_ = templates_in(side_document(files, name, where), place);
  }
  for (const char* const name : {"default", "tool_use"}) {
    const auto found = templates.sources_.find(name);
    if (found == templates.sources_.end()) continue;
    const bool only = templates.sources_.size() == 1;
    templates.parsed_.emplace(name,
                              ChatTemplate::parse(found->second, only ? place : fmt::format("{}: template '{}'", place, name)));
  }
  return templates;
}

std::string_view ChatTemplates::source(bool with_tools) const noexcept {
  for (const char* const name : {"tool_use", "default"}) {
    const auto found = sources_.find(name);
    if (found != sources_.end() && (with_tools || found->first == "default")) return found->second;
  }
  return {};
}

const ChatTemplate& ChatTemplates::choose(bool with_tools) const {
  for (const char* const name : {"tool_use", "default"}) {
    const auto found = parsed_.find(name);
    if (found != parsed_.end() && (with_tools || found->first == "default")) return found->second;
  }
  std::string names;
  for (const auto& [name, text] : sources_) names += fmt::format("{}'{}'", names.empty() ? "" : ", ", printable(name, 40));
  const std::string found = names.empty() ? "has no chat template" : "has no chat template called 'default', only " + names;
  throw Error(ErrorCode::kNotFound, where_, found, "send the prompt as plain text instead of a conversation");
}

}  // namespace tritllm
