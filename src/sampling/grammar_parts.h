// Owns the parts that grammars of several notations are made of: characters as their UTF-8 bytes, repetition, and the reading of
// a notation's text. Does not own any notation (regex_grammar.cpp, gbnf_grammar.cpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sampling/byte_grammar.h"

namespace tritllm {

inline constexpr uint32_t kLastCharacter = 0x10FFFF;

// Code points, as ranges in any order.
class CharacterSet {
 public:
  void add(uint32_t first, uint32_t last) { ranges_.emplace_back(first, last); }
  void add(const CharacterSet& other) { ranges_.insert(ranges_.end(), other.ranges_.begin(), other.ranges_.end()); }
  // Sorted, and neither overlapping nor touching.
  std::vector<std::pair<uint32_t, uint32_t>> ranges() const;
  CharacterSet inverted() const;

 private:
  std::vector<std::pair<uint32_t, uint32_t>> ranges_;
};

// A rule that matches one character of the set, none where the set is empty. Half of a surrogate pair is no character.
ByteGrammar::Rule add_characters(ByteGrammar& grammar, const CharacterSet& set);

// A rule that matches `rule` from `least` to `most` times; without `most`, as often as it likes.
ByteGrammar::Rule add_repetition(ByteGrammar& grammar, ByteGrammar::Rule rule, uint32_t least, std::optional<uint32_t> most);

std::string utf8_of(uint32_t character);

// The text of a grammar, read character by character. Errors tell the place in it.
class GrammarText {
 public:
  // `where` names the text in errors. Throws an Error where it is not UTF-8.
  GrammarText(std::string_view text, std::string where);

  bool at_end() const noexcept { return at_ == characters_.size(); }
  size_t place() const noexcept { return at_; }
  // The next character, or the one so many further; 0 after the end.
  uint32_t peek(size_t further = 0) const noexcept { return at_ + further < characters_.size() ? characters_[at_ + further] : 0; }
  uint32_t take();
  // Whether `word`, of ASCII, comes next; then it is taken.
  bool skip(std::string_view word) noexcept;
  // A number of so many hexadecimal digits.
  uint32_t hexadecimal(size_t digits);
  // How often the part before it may stand: "*", "+", "?", "{2}", "{2,}" or "{2,5}". Nothing where none of them comes next.
  struct Repetition {
    uint32_t least;
    std::optional<uint32_t> most;  // nothing: any number
  };
  std::optional<Repetition> repetition();

  [[noreturn]] void refuse(std::string_view expected) const;                  // what comes next
  [[noreturn]] void refuse_at(size_t place, std::string_view problem) const;  // "character 3: PROBLEM"

 private:
  uint32_t number();
  // What stands in braces; the first one is taken already.
  Repetition counts();

  std::vector<uint32_t> characters_;
  std::string where_;
  size_t at_ = 0;
};

}  // namespace tritllm
