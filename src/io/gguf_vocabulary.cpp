#include "io/gguf_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/error.h"

namespace tritllm {
namespace {

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kSpaceMark = "\u2581";

// Ends a turn in one of the families here. llama.cpp knows them by their text too, as converters rarely state them.
constexpr std::array<std::string_view, 4> kTurnEnds{"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<end_of_turn>"};

Error bad_token(const GgufFile& file, std::string_view problem) {
  return Error(ErrorCode::kBadInput, fmt::format("{}: key '{}'", file.where(), kTokens), problem);
}

std::vector<GgufTokenKind> read_kinds(const GgufFile& file, size_t count) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  std::vector<GgufTokenKind> kinds(count, GgufTokenKind::kNormal);
  const auto numbers = file.integers(kKey);
  if (!numbers) return kinds;
  const Error wrong(ErrorCode::kBadInput, fmt::format("{}: key '{}'", file.where(), kKey),
                    fmt::format("expected {} token kinds from 0 to 6", count));
  if (numbers->size() != count) throw wrong;
  for (size_t i = 0; i < count; ++i) {
    if ((*numbers)[i] > static_cast<uint64_t>(GgufTokenKind::kByte)) throw wrong;
    if ((*numbers)[i] != 0) kinds[i] = static_cast<GgufTokenKind>((*numbers)[i]);  // 0 is "undefined"
  }
  return kinds;
}

// Converters fill ids that the tokenizer does not use with such names; the original tokenizer has no token there.
bool is_filler(std::string_view text, GgufTokenKind kind, size_t id) {
  return kind == GgufTokenKind::kUnused && text == fmt::format("[PAD{}]", id);
}

// Converters write the marks of user-defined tokens as spaces; the merges of Gemma's runs of spaces need the marks.
std::string with_space_marks(std::string_view text) {
  std::string marked;
  for (size_t i = 0; i < text.size(); ++i) marked += kSpaceMark;
  return marked;
}

bool is_all_spaces(std::string_view text) { return !text.empty() && text.find_first_not_of(' ') == std::string_view::npos; }

// `fallback` counts where the file is silent, if there is such a token.
std::optional<uint64_t> special_id(const GgufFile& file, const GgufVocabulary& vocabulary, std::string_view name,
                                   std::optional<uint64_t> fallback = {}) {
  const auto is_token = [&](uint64_t id) { return id < vocabulary.tokens.size() && !vocabulary.tokens[id].text.empty(); };
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  const auto id = file.integer(key);
  if (!id) return fallback && is_token(*fallback) ? fallback : std::nullopt;
  if (is_token(*id)) return id;
  throw Error(ErrorCode::kBadInput, fmt::format("{}: key '{}'", file.where(), key),
              fmt::format("none of the {} tokens has the id {}", vocabulary.tokens.size(), *id));
}

void add_end(GgufTokenIds& special, std::optional<uint64_t> id) {
  if (id && std::ranges::find(special.ends, *id) == special.ends.end()) special.ends.push_back(*id);
}

GgufTokenIds read_special_ids(const GgufFile& file, const GgufVocabulary& vocabulary, bool is_sentencepiece) {
  const auto fallback = [&](uint64_t id) { return is_sentencepiece ? std::optional(id) : std::nullopt; };
  GgufTokenIds special;
  special.bos = special_id(file, vocabulary, "bos", fallback(1));
  special.eos = special_id(file, vocabulary, "eos", fallback(2));
  special.unknown = special_id(file, vocabulary, "unknown", fallback(0));
  special.pad = special_id(file, vocabulary, "padding");
  add_end(special, special.eos);
  add_end(special, special_id(file, vocabulary, "eot"));
  add_end(special, special_id(file, vocabulary, "eom"));
  for (const std::string_view text : kTurnEnds) {
    const auto found = vocabulary.ids.find(text);
    if (found != vocabulary.ids.end() && vocabulary.tokens[found->second].kind == GgufTokenKind::kControl) {
      add_end(special, found->second);
    }
  }
  return special;
}

}  // namespace

bool GgufVocabulary::is_special(uint64_t id) const {
  const GgufTokenKind kind = tokens[id].kind;
  if (kind == GgufTokenKind::kControl || kind == GgufTokenKind::kUnknown) return true;
  return special.bos == id || special.eos == id || special.unknown == id || special.pad == id;
}

GgufVocabulary read_vocabulary(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions,
                               bool is_sentencepiece) {
  const auto texts = file.texts(kTokens);
  if (!texts || texts->empty()) throw bad_token(file, "the list of tokens is missing or empty");
  if (texts->size() > dimensions.vocabulary) {
    throw bad_token(file, fmt::format("{} tokens, but the embedding has {} rows", texts->size(), dimensions.vocabulary));
  }
  const auto kinds = read_kinds(file, texts->size());
  const bool marks_spaces = is_sentencepiece && family.spaces == GgufSpaces::kGemma;
  GgufVocabulary vocabulary;
  vocabulary.tokens.resize(texts->size());
  for (size_t id = 0; id < texts->size(); ++id) {
    GgufToken& token = vocabulary.tokens[id];
    token.kind = kinds[id];
    if (is_filler((*texts)[id], token.kind, id)) continue;
    token.text = marks_spaces && is_all_spaces((*texts)[id]) ? with_space_marks((*texts)[id]) : std::string((*texts)[id]);
    if (!token.text.empty() && !vocabulary.ids.emplace(token.text, id).second) {
      throw bad_token(file, fmt::format("the token \"{}\" stands twice", printable(token.text)));
    }
  }
  vocabulary.special = read_special_ids(file, vocabulary, is_sentencepiece);
  return vocabulary;
}

GgufMerges read_merges(const GgufFile& file, const GgufVocabulary& vocabulary) {
  constexpr std::string_view kKey = "tokenizer.ggml.merges";
  const auto lines = file.texts(kKey);
  const std::string place = fmt::format("{}: key '{}'", file.where(), kKey);
  if (!lines) throw Error(ErrorCode::kBadInput, place, "the list of merges is missing");
  GgufMerges merges;
  merges.reserve(lines->size());
  std::string whole;
  for (const std::string_view line : *lines) {
    const size_t space = line.find(' ', 1);
    const auto left = line.substr(0, space);
    const auto right = space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
    whole.assign(left).append(right);
    if (right.empty() || !vocabulary.ids.contains(left) || !vocabulary.ids.contains(right) || !vocabulary.ids.contains(whole)) {
      throw Error(ErrorCode::kBadInput, place,
                  fmt::format("the merge \"{}\" does not make a token of two tokens", printable(line)));
    }
    merges.emplace_back(left, right);
  }
  return merges;
}

}  // namespace tritllm
