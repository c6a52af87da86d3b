// Owns small tokenizer.json documents for the tests of this folder and for fuzzing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/tokenizer.h"

namespace tritllm {

// {"type": TYPE, and the rest}.
inline Json part(std::string_view type, const Json& rest = Json::object()) {
  Json json = {{"type", type}};
  json.update(rest);
  return json;
}

inline Json sequence(std::string_view member, std::vector<Json> parts) { return part("Sequence", {{std::string(member), parts}}); }

inline Json replace(std::string_view from, std::string_view to) {
  return part("Replace", {{"pattern", {{"String", from}}}, {"content", to}});
}

inline Json split(std::string_view regex, std::string_view behavior = "Isolated", bool invert = false) {
  return part("Split", {{"pattern", {{"Regex", regex}}}, {"behavior", behavior}, {"invert", invert}});
}

inline Json added_token(unsigned id, std::string_view content, const Json& flags = Json::object()) {
  Json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  token.update(flags);
  return token;
}

// A vocabulary of the letters a to z, the space, the mark and some merges: "th", "he", "the", "in", "ab", "abc".
inline Json letters_model() {
  Json vocabulary = Json::object();
  const auto add = [&](const std::string& token) { vocabulary[token] = vocabulary.size(); };
  for (char letter = 'a'; letter <= 'z'; ++letter) add(std::string(1, letter));
  for (const char* token : {" ", "\u2581", "th", "he", "the", "in", "ab", "abc", "<unk>", "\u2581a"}) add(token);
  return {{"type", "BPE"},       {"unk_token", "<unk>"},
          {"fuse_unk", false},   {"byte_fallback", false},
          {"vocab", vocabulary}, {"merges", Json::array({"t h", "h e", "th e", "i n", "a b", "ab c", "\u2581 a"})}};
}

inline Json tokenizer_document(Json model = letters_model()) {
  return {{"version", "1.0"},         {"truncation", nullptr},    {"padding", nullptr},        {"added_tokens", Json::array()},
          {"normalizer", nullptr},    {"pre_tokenizer", nullptr}, {"post_processor", nullptr}, {"decoder", part("Fuse")},
          {"model", std::move(model)}};
}

inline Tokenizer tokenizer_of(const Json& document) { return Tokenizer::parse(document.dump(), "tokenizer.json"); }

// Tokens of a text as their contents, the easier to read.
inline std::vector<std::string> tokens_of(const Tokenizer& tokenizer, std::string_view text, const EncodeOptions& options = {}) {
  std::vector<std::string> contents;
  for (const TokenId id : tokenizer.encode(text, options)) contents.emplace_back(tokenizer.token_content(id));
  return contents;
}

}  // namespace tritllm
