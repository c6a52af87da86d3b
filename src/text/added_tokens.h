// Owns the added tokens of tokenizer.json: which spans of a text are such a token. They are looked for twice, those that are
// not "normalized" in the text as it came, the others in what the normalizer makes of the rest. Does not own what happens to the
// rest.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/tokenizer_parts.h"
#include "text/types.h"

namespace tritllm {

class TokenMatcher {
 public:
  struct Entry {
    std::string text;
    uint32_t index;  // the caller's name for it
  };
  struct Candidate {
    uint32_t index;
    size_t length;
  };

  TokenMatcher() = default;
  // No two texts are equal and none is empty.
  explicit TokenMatcher(std::vector<Entry> entries);

  bool empty() const noexcept { return entries_.empty(); }
  bool may_start_with(char byte) const noexcept { return starts_[static_cast<unsigned char>(byte)]; }

  // All entries that the text has at `at`, the shortest first. Returns how many bytes were looked at.
  size_t candidates_at(std::string_view text, size_t at, std::vector<Candidate>& out) const;

 private:
  std::vector<Entry> entries_;  // sorted by text: each byte of the text narrows a range of them
  std::vector<bool> starts_ = std::vector<bool>(256);
};

struct AddedToken {
  TokenId id = 0;
  std::string content;
  std::string match_text;  // the text that is looked for: the content, normalized for a token that is "normalized"
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;
};

class AddedTokens {
 public:
  enum class Pass { kRaw, kNormalized };

  // A part of a text: a token, or text between tokens.
  struct Part {
    TextSpan span;
    const AddedToken* token;  // null for text
  };
  using Accepts = std::function<bool(const AddedToken& token, TextSpan span)>;
  using Sink = std::function<void(const Part& part)>;

  // An element of the field of tokenizer.json.
  static AddedToken parse_token(const JsonView& element);

  // The tokens in their order; `where` is the field.
  AddedTokens(std::vector<AddedToken> tokens, const Vocabulary& vocabulary, const Normalizer& normalizer, const std::string& where);

  // Cuts a text into parts, in order. Of the tokens that `accepts` allows at the leftmost place the longest counts.
  void cut(std::string_view text, Pass pass, const Accepts& accepts, MatchScratch& scratch, const Sink& sink) const;

  // Null where the id is not that of an added token.
  const AddedToken* find(TokenId id) const noexcept;
  std::optional<TokenId> id_of(std::string_view content) const;
  bool is_special_content(std::string_view content) const { return special_contents_.contains(content); }
  bool has_special(Pass pass) const noexcept;
  // One more than the highest id; 0 without added tokens.
  size_t id_limit() const noexcept { return id_limit_; }

 private:
  struct Cut;

  void add(AddedToken token, const Vocabulary& vocabulary, const std::string& where);
  void build_matchers(const std::string& where);

  std::vector<AddedToken> tokens_;
  std::unordered_map<TokenId, uint32_t> index_of_id_;
  std::unordered_map<std::string_view, uint32_t> index_of_content_;  // views of tokens_
  std::unordered_set<std::string_view> special_contents_;            // views of tokens_
  TokenMatcher raw_, normalized_;
  std::string where_;
  size_t id_limit_ = 0;
  size_t new_count_ = 0;  // tokens that the vocabulary lacks
};

}  // namespace tritllm
