// Owns the BPE model of tokenizer.json: a word becomes tokens. Does not own how text is cut into words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/merge_table.h"
#include "text/vocabulary.h"

namespace tritllm {

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
    using is_transparent = void;
    size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>()(text); }
  };

  std::vector<Symbol> symbols_;
  std::vector<uint64_t> sorted_, heap_;  // candidates: rank, then place of the left symbol
  std::unordered_map<std::string, CachedWord, Hash, std::equal_to<>> cache_;
  std::vector<TokenId> cached_ids_;
};

class Bpe {
 public:
  static Bpe parse(const Component& component);

  // Appends the tokens of a word, which must be shorter than kLongestWord bytes.
  void encode(std::string_view word, BpeScratch& scratch, std::vector<TokenId>& out) const;

  static constexpr size_t kLongestWord = UINT32_MAX;

  const Vocabulary& vocabulary() const noexcept { return vocabulary_; }

 private:
  Bpe() = default;

  void parse_flags(const Component& component);
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
  std::optional<std::string> unknown_;     // what stands for a character that is no token
  bool fuses_unknown_ = false;
  bool ignores_merges_ = false;
};

}  // namespace tritllm
