// Owns the vocabulary of a model: texts of tokens by id and ids by text. Does not own added tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/component.h"

namespace tritllm {

using TokenId = uint32_t;

// Four times the largest vocabulary in use: tables by id stay small whatever a file declares.
inline constexpr TokenId kLargestTokenId = (1u << 20) - 1;

class Vocabulary {
 public:
  static Vocabulary parse(const Component& component);

  std::optional<TokenId> find(std::string_view content) const;
  bool contains(TokenId id) const noexcept { return id < known_.size() && known_[id]; }
  // Empty for an id that is not known.
  std::string_view content(TokenId id) const noexcept {
    return contains(id) ? std::string_view(contents_[id]) : std::string_view();
  }
  size_t count() const noexcept { return ids_.size(); }
  // The highest id and one.
  size_t id_limit() const noexcept { return contents_.size(); }

 private:
  std::vector<std::string> contents_;
  std::vector<bool> known_;
  std::unordered_map<std::string_view, TokenId> ids_;  // views of contents_
};

}  // namespace tritllm
