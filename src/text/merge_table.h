// Owns the merges of a BPE model: which two tokens make which third, and which pair goes first. Does not own the merging of a word.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "text/vocabulary.h"

namespace tritllm {

class MergeTable {
 public:
  struct Merge {
    uint32_t rank;  // the place in the list of merges; the lowest goes first
    TokenId result;
  };

  static MergeTable parse(const Component& component, const Vocabulary& vocabulary);

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

}  // namespace tritllm
