// Owns the BPE model of tokenizer.json: its vocabulary, its merges, and how a word becomes tokens. Does not own added tokens nor
// how text is cut into words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer_parts.h"
#include "text/types.h"

namespace tritllm {

class Vocabulary {
 public:
  // Reads one member of the field "vocab". `where` is the field.
  void add(std::string_view content, const Json& id, const std::string& where);
  // After the last member, before the first look-up.
  void finish(const std::string& where);

  std::optional<TokenId> find(std::string_view content) const;
  bool contains(TokenId id) const noexcept { return id < known_.size() && known_[id]; }
  // Empty for an id that is not known.
  std::string_view content(TokenId id) const noexcept {
    return contains(id) ? std::string_view(contents_[id]) : std::string_view();
  }
  size_t count() const noexcept { return ids_.size(); }
  // One more than the highest id.
  size_t id_limit() const noexcept { return contents_.size(); }

 private:
  std::vector<std::string> contents_;
  std::vector<bool> known_;
  std::unordered_map<std::string_view, TokenId> ids_;  // views of contents_
};

// The field "merges" as it is written: pairs of tokens, the first goes first. Millions of them take little more than their text.
class MergeList {
 public:
  struct Pair {
    std::string_view left, right;
  };

  // Reads one element, ["a", "b"] or "a b". `where` is the field.
  void add(const Json& element, const std::string& where);

  size_t count() const noexcept { return ends_.size(); }
  Pair operator[](size_t index) const noexcept;

 private:
  struct Ends {
    size_t left, right;  // in texts_; a pair begins where the one before it ends
  };
  std::string texts_;
  std::vector<Ends> ends_;
  size_t elements_ = 0;  // for errors: the first may be a heading
};

// Which two tokens make which third, and which pair goes first.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;  // the place in the list of merges; the lowest goes first
    TokenId result;
  };

  MergeTable() = default;
  // `where` is the field "merges".
  MergeTable(const MergeList& merges, const Vocabulary& vocabulary, const std::string& where);

  // Null where the pair does not merge.
  const Merge* find(TokenId left, TokenId right) const noexcept;
  TokenId result_of(uint32_t rank) const noexcept { return results_[rank]; }

 private:
  struct Slot {
    uint64_t pair;
    Merge merge;
  };

  void insert(TokenId left, TokenId right, Merge merge);
  size_t first_slot(uint64_t pair) const noexcept;

  // Open addressing with linear probing, at most half full: one look at memory for most pairs.
  std::vector<Slot> slots_;
  std::vector<TokenId> results_;  // by rank
};

// What a thread needs to encode, and the words that it has encoded already: one for each call of encode.
class BpeScratch {
 private:
  friend class Bpe;

  struct Symbol {
    TokenId id;
    uint32_t previous, next;
  };
  struct CachedWord {
    size_t begin, count;  // in cached_ids_
  };
  struct Hash {
    using is_transparent = void;  // NOLINT(readability-identifier-naming): the standard's name
    size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>()(text); }
  };

  std::vector<Symbol> symbols_;
  std::vector<uint64_t> sorted_, heap_;  // candidates: rank, then place of the left symbol
  std::unordered_map<std::string, CachedWord, Hash, std::equal_to<>> cache_;
  std::vector<TokenId> cached_ids_;
};

class Bpe {
 public:
  // `component` is the field "model", whose vocabulary and merges were read as they came.
  static Bpe parse(const JsonView& component, Vocabulary vocabulary, const MergeList& merges);

  // Appends the tokens of a word, which must be shorter than kLongestWord bytes.
  void encode(std::string_view word, BpeScratch& scratch, std::vector<TokenId>& out) const;

  static constexpr size_t kLongestWord = UINT32_MAX;

  const Vocabulary& vocabulary() const noexcept { return vocabulary_; }

 private:
  Bpe() = default;

  void parse_flags(const JsonView& component);
  void read_byte_tokens();
  void read_character_tokens();
  TokenId character_token(std::string_view character) const;
  void merge_word(std::string_view word, BpeScratch& scratch) const;
  void split_characters(std::string_view word, BpeScratch& scratch) const;
  bool append_bytes(std::string_view character, BpeScratch& scratch) const;
  TokenId unknown_token() const;
  void merge_all(BpeScratch& scratch) const;
  void merge_at(uint64_t candidate, BpeScratch& scratch) const;
  void propose(uint32_t left, BpeScratch& scratch, std::vector<uint64_t>& candidates) const;

  std::string where_;
  Vocabulary vocabulary_;
  MergeTable merges_;
  std::vector<TokenId> character_tokens_;  // by code point, for those of two bytes at most
  std::vector<TokenId> byte_tokens_;       // of byte_fallback: 256 ids, some perhaps missing; empty without it
  std::optional<std::string> unknown_;     // the token for characters that have none
  bool fuses_unknown_ = false;
  bool ignores_merges_ = false;
};

}  // namespace tritllm
