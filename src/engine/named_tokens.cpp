#include "engine/named_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace tritllm {
namespace {

constexpr std::array<std::string_view, 7> kStandardNames{"bos_token", "eos_token", "unk_token", "sep_token",
                                                         "pad_token", "cls_token", "mask_token"};
constexpr std::array<std::string_view, 4> kPlacementFlags{"lstrip", "rstrip", "single_word", "normalized"};

// An entry of tokenizer.json's "added_tokens", without its id.
struct NamedToken {
  std::string content;
  bool special = false;
  Json flags = Json::object();  // of kPlacementFlags
};

// The document, or an empty object where the folder has no such file.
Json document_of(const std::vector<SideFile>& files, std::string_view name, const std::string& where) {
  const SideFile* const file = find_side_file(files, name);
  if (file == nullptr) return Json::object();
  const std::string place = fmt::format("{}: {}", where, name);
  Json document = parse_python_json(file->contents, place);
  if (!document.is_object()) throw Error(ErrorCode::kBadInput, place, "expected an object");
  return document;
}

// tokenizer_config.json. Where it lists no added tokens it is of the older kind, and special_tokens_map.json overrides it.
Json tokenizer_settings(const std::vector<SideFile>& files, const std::string& where) {
  Json settings = document_of(files, "tokenizer_config.json", where);
  if (settings.contains("added_tokens_decoder")) return settings;
  const Json map = document_of(files, "special_tokens_map.json", where);
  for (const auto& [key, value] : map.items()) settings[key] = value;
  return settings;
}

NamedToken token_from_object(const JsonView& object, bool special) {
  NamedToken token{.content = object.text("content"), .special = object.boolean_or("special", special)};
  for (const std::string_view flag : kPlacementFlags) {
    const bool fallback = flag == "normalized" && !token.special;
    token.flags[std::string(flag)] = object.boolean_or(flag, fallback);
  }
  return token;
}

NamedToken token_from_text(const std::string& content, bool special, const std::string& where) {
  const Json object{{"content", content}};
  return token_from_object(JsonView(object, where), special);
}

// A special token is written as a text, or as an object with flags.
NamedToken special_token(const Json& value, const std::string& where) {
  NamedToken token =
      value.is_object() ? token_from_object(JsonView(value, where), true) : token_from_text(value.get<std::string>(), true, where);
  token.special = true;
  return token;
}

bool is_token(const Json& value) { return value.is_string() || (value.is_object() && value.contains("content")); }

// The tokens under keys like "eos_token": the standard names first, then those of this model alone.
std::vector<NamedToken> special_tokens(const Json& settings, const std::string& where) {
  std::vector<NamedToken> tokens;
  for (const std::string_view name : kStandardNames) {
    const auto found = settings.find(name);
    if (found != settings.end() && is_token(*found)) tokens.push_back(special_token(*found, where));
  }
  for (const auto& [key, value] : settings.items()) {
    if (!key.ends_with("_token") || std::ranges::find(kStandardNames, key) != kStandardNames.end()) continue;
    if (is_token(value)) tokens.push_back(special_token(value, where));
  }
  const char* const extra = settings.contains("extra_special_tokens") ? "extra_special_tokens" : "additional_special_tokens";
  const auto list = settings.find(extra);
  if (list == settings.end() || list->is_null()) return tokens;
  if (!list->is_structured()) throw Error(ErrorCode::kBadInput, where, fmt::format("'{}': expected a list of tokens", extra));
  for (const Json& value : *list) {
    if (!is_token(value)) throw Error(ErrorCode::kBadInput, where, fmt::format("'{}': expected a list of tokens", extra));
    tokens.push_back(special_token(value, where));
  }
  return tokens;
}

uint64_t token_index(const std::string& text, const std::string& where) {
  uint64_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error == std::errc() && end == text.data() + text.size()) return index;
  throw Error(ErrorCode::kBadInput, where,
              fmt::format("'added_tokens_decoder': expected token ids, found '{}'", printable(text, 40)));
}

// Those of tokenizer_config.json's "added_tokens_decoder" or, in older folders, of added_tokens.json: by ascending index.
std::vector<NamedToken> added_tokens(const std::vector<SideFile>& files, const Json& settings,
                                     const std::vector<NamedToken>& specials, const std::string& where) {
  std::map<uint64_t, NamedToken> by_index;
  std::unordered_set<std::string_view> special_contents;
  for (const NamedToken& token : specials) special_contents.insert(token.content);
  const auto is_named = [&](const std::string& content) { return special_contents.contains(content); };
  if (const auto decoder = settings.find("added_tokens_decoder"); decoder != settings.end() && !decoder->is_null()) {
    const std::string place = where + ": tokenizer_config.json";
    if (!decoder->is_object()) throw Error(ErrorCode::kBadInput, place, "'added_tokens_decoder': expected an object");
    for (const auto& [index, token] : decoder->items()) {
      by_index[token_index(index, place)] = token_from_object(JsonView(token, place), false);
    }
  } else {
    const std::string place = where + ": added_tokens.json";
    const Json document = document_of(files, "added_tokens.json", where);
    for (const auto& [content, index] : document.items()) {
      if (!index.is_number_unsigned()) {
        throw Error(ErrorCode::kBadInput, place, fmt::format("'{}': expected a token id", printable(content, 60)));
      }
      by_index[index.get<uint64_t>()] = token_from_text(content, is_named(content), place);
    }
  }
  std::vector<NamedToken> tokens;
  for (auto& [index, token] : by_index) {
    token.special = token.special || is_named(token.content);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

bool is_readable(const Json& token) {
  const auto boolean_or_absent = [&](std::string_view flag) { return !token.contains(flag) || token.at(flag).is_boolean(); };
  return token.is_object() && token.contains("content") && token.at("content").is_string() && token.contains("id") &&
         token.at("id").is_number_unsigned() && boolean_or_absent("special") &&
         std::ranges::all_of(kPlacementFlags, boolean_or_absent);
}

// "added_tokens" of tokenizer.json, without building the rest of a large document. Nothing where they cannot be read.
std::optional<Json> own_added_tokens(std::string_view tokenizer) {
  const Json::parser_callback_t only_added_tokens = [](int depth, Json::parse_event_t event, Json& parsed) {
    return depth != 1 || event != Json::parse_event_t::key || parsed == "added_tokens";
  };
  const Json document = Json::parse(tokenizer, only_added_tokens, /*allow_exceptions=*/false);
  if (!document.is_object()) return std::nullopt;
  const auto found = document.find("added_tokens");
  if (found == document.end()) return Json::array();
  if (!found->is_array() || !std::ranges::all_of(*found, is_readable)) return std::nullopt;
  return *found;
}

bool is_described_by(const Json& own, const NamedToken& token) {
  if (own.value("special", false) != token.special) return false;
  return std::ranges::all_of(kPlacementFlags, [&](std::string_view flag) {
    return own.value(std::string(flag), false) == token.flags.at(std::string(flag)).get<bool>();
  });
}

using Positions = std::unordered_map<std::string, size_t>;

Positions positions_of(const Json& tokens) {
  Positions positions;
  for (size_t i = 0; i < tokens.size(); ++i) positions.emplace(tokens[i].at("content").get<std::string>(), i);
  return positions;
}

// Added tokens first: they say best what a special token is like.
std::vector<NamedToken> missing_tokens(const Json& own, std::vector<NamedToken> added, const std::vector<NamedToken>& specials) {
  const Positions positions = positions_of(own);
  std::unordered_set<std::string> named;
  std::vector<NamedToken> missing;
  for (NamedToken& token : added) {
    named.insert(token.content);
    const auto found = positions.find(token.content);
    if (found == positions.end() || !is_described_by(own[found->second], token)) missing.push_back(std::move(token));
  }
  for (const NamedToken& token : specials) {
    if (!positions.contains(token.content) && named.insert(token.content).second) missing.push_back(token);
  }
  std::erase_if(missing, [](const NamedToken& token) { return token.content.empty(); });
  return missing;
}

struct VocabularyIds {
  uint64_t count = 0;
  std::unordered_map<std::string, uint64_t> of_missing;  // of the missing tokens that the vocabulary knows
};

// Read entry by entry: a tree of a large tokenizer.json would take some forty times its bytes. Nothing without a vocabulary.
std::optional<VocabularyIds> vocabulary_ids(std::string_view tokenizer, const std::vector<NamedToken>& missing,
                                            const std::string& where) {
  std::unordered_set<std::string_view> wanted;
  for (const NamedToken& token : missing) wanted.insert(token.content);
  static constexpr std::string_view kLists[] = {"/model/vocab", "/model/merges", "/added_tokens"};
  VocabularyIds ids;
  const Json rest = parse_json_in_parts(tokenizer, where, kLists, [&](size_t list, const std::string& content, const Json& id) {
    if (list != 0) return;
    ++ids.count;
    if (id.is_number_unsigned() && wanted.contains(content)) ids.of_missing.emplace(content, id.get<uint64_t>());
  });
  const auto model = rest.find("model");
  if (model == rest.end() || !model->is_object() || !model->contains("vocab") || !model->at("vocab").is_object())
    return std::nullopt;
  return ids;
}

// Adds them as the tokenizers library does: a token that the vocabulary knows keeps its id, others follow the highest.
void add_tokens(const std::vector<NamedToken>& tokens, const VocabularyIds& ids, Json& list) {
  Positions positions = positions_of(list);
  uint64_t next = ids.count;
  for (const Json& token : list) next = std::max(next, token.at("id").get<uint64_t>() + 1);
  for (const NamedToken& token : tokens) {
    Json entry = {{"id", 0}, {"content", token.content}, {"special", token.special}};
    entry.update(token.flags);
    if (const auto found = positions.find(token.content); found != positions.end()) {
      entry["id"] = list[found->second].at("id");
      list[found->second] = std::move(entry);
      continue;
    }
    const auto known = ids.of_missing.find(token.content);
    entry["id"] = known != ids.of_missing.end() ? known->second : next++;
    positions.emplace(token.content, list.size());
    list.push_back(std::move(entry));
  }
}

}  // namespace

const SideFile* find_side_file(const std::vector<SideFile>& files, std::string_view name) noexcept {
  const auto found = std::ranges::find(files, name, &SideFile::name);
  return found == files.end() ? nullptr : &*found;
}

std::string special_token_text(const std::vector<SideFile>& files, std::string_view name, const std::string& where) {
  const Json settings = tokenizer_settings(files, where);
  const auto found = settings.find(name);
  if (found == settings.end() || found->is_null()) return "";
  const std::string place = where + ": tokenizer_config.json";
  return found->is_object() ? JsonView(*found, place).text("content") : JsonView(settings, place).text(name);
}

std::optional<JsonDocument> completed_added_tokens(const std::vector<SideFile>& files, const std::string& where) {
  const SideFile* const file = find_side_file(files, "tokenizer.json");
  if (file == nullptr) return std::nullopt;
  const Json settings = tokenizer_settings(files, where);
  const std::vector<NamedToken> specials = special_tokens(settings, where + ": tokenizer_config.json");
  const std::vector<NamedToken> added = added_tokens(files, settings, specials, where);
  if (specials.empty() && added.empty()) return std::nullopt;
  std::optional<Json> own = own_added_tokens(file->contents);
  if (!own) return std::nullopt;
  const std::vector<NamedToken> missing = missing_tokens(*own, added, specials);
  if (missing.empty()) return std::nullopt;
  const auto ids = vocabulary_ids(file->contents, missing, fmt::format("{}: tokenizer.json", where));
  if (!ids) return std::nullopt;
  add_tokens(missing, *ids, *own);
  return JsonDocument(*std::move(own));
}

}  // namespace tritllm
