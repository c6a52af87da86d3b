// Owns the search for any of many fixed texts at one place of a text. Does not own which of them counts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

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

  // All entries that the text has at `at`, the shortest first.
  void candidates_at(std::string_view text, size_t at, std::vector<Candidate>& out) const;

 private:
  std::vector<Entry> entries_;  // sorted by text: each byte of the text narrows a range of them
  std::vector<bool> starts_ = std::vector<bool>(256);
};

}  // namespace tritllm
