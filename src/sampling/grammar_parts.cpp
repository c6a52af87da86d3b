#include "sampling/grammar_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "core/error.h"
#include "core/utf8.h"

namespace tritllm {
namespace {

using Rule = ByteGrammar::Rule;
using Sequence = ByteGrammar::Sequence;

constexpr uint32_t kMostCount = 1'000;
constexpr size_t kMostText = 64 << 10;

ByteSet byte_range(uint8_t first, uint8_t last) {
  ByteSet set;
  for (unsigned byte = first; byte <= last; ++byte) set.set(byte);
  return set;
}

size_t add_bytes_of(uint32_t character, uint8_t* bytes) noexcept {
  if (character < 0x80) return bytes[0] = static_cast<uint8_t>(character), 1;
  const size_t size = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
  for (size_t i = size - 1; i > 0; --i, character >>= 6) bytes[i] = static_cast<uint8_t>(0x80 | (character & 0x3F));
  constexpr std::array<uint8_t, 5> kLead = {0, 0, 0xC0, 0xE0, 0xF0};
  bytes[0] = static_cast<uint8_t>(kLead[size] | character);
  return size;
}

using Bytes = std::span<const uint8_t>;

// Alternatives for the characters whose bytes lie between two of equal length: as few as leave each byte a range of its own.
void add_between(ByteGrammar& grammar, Rule rule, const Sequence& before, Bytes first, Bytes last) {
  Sequence sequence = before;
  if (first.size() == 1) {
    sequence.push_back(grammar.bytes(byte_range(first[0], last[0])));
    grammar.add_alternative(rule, sequence);
    return;
  }
  constexpr std::array<uint8_t, 3> kLeast = {0x80, 0x80, 0x80}, kMost = {0xBF, 0xBF, 0xBF};
  const Bytes least = Bytes(kLeast).first(first.size() - 1), most = Bytes(kMost).first(first.size() - 1);
  const auto with = [&](uint8_t from, uint8_t to, Bytes low, Bytes high) {
    Sequence longer = before;
    longer.push_back(grammar.bytes(byte_range(from, to)));
    add_between(grammar, rule, longer, low, high);
  };
  if (first[0] == last[0]) return with(first[0], first[0], first.subspan(1), last.subspan(1));
  unsigned low = first[0], high = last[0];
  if (!std::ranges::equal(first.subspan(1), least)) with(first[0], first[0], first.subspan(1), most), ++low;
  if (!std::ranges::equal(last.subspan(1), most)) with(last[0], last[0], least, last.subspan(1)), --high;
  if (low <= high) with(static_cast<uint8_t>(low), static_cast<uint8_t>(high), least, most);
}

}  // namespace

std::vector<std::pair<uint32_t, uint32_t>> CharacterSet::ranges() const {
  auto sorted = ranges_;
  std::ranges::sort(sorted);
  std::vector<std::pair<uint32_t, uint32_t>> merged;
  for (const auto& [first, last] : sorted) {
    if (!merged.empty() && first <= merged.back().second + 1) merged.back().second = std::max(merged.back().second, last);
    else merged.emplace_back(first, last);
  }
  return merged;
}

CharacterSet CharacterSet::inverted() const {
  CharacterSet set;
  uint32_t next = 0;
  for (const auto& [first, last] : ranges()) {
    if (first > next) set.add(next, first - 1);
    next = last + 1;
  }
  if (next <= kLastCharacter) set.add(next, kLastCharacter);
  return set;
}

Rule add_characters(ByteGrammar& grammar, const CharacterSet& set) {
  // Characters of one length in UTF-8 without the surrogates.
  constexpr std::array<std::pair<uint32_t, uint32_t>, 5> kParts = {
      {{0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, kLastCharacter}}};
  const Rule rule = grammar.add_rule();
  ByteSet plain;
  for (const auto& [first, last] : set.ranges()) {
    for (const auto& [least, most] : kParts) {
      const uint32_t low = std::max(first, least), high = std::min(last, most);
      if (low > high) continue;
      if (most == 0x7F) {
        plain |= byte_range(static_cast<uint8_t>(low), static_cast<uint8_t>(high));
        continue;
      }
      std::array<uint8_t, 4> low_bytes{}, high_bytes{};
      const size_t size = add_bytes_of(low, low_bytes.data());
      add_bytes_of(high, high_bytes.data());
      add_between(grammar, rule, {}, Bytes(low_bytes).first(size), Bytes(high_bytes).first(size));
    }
  }
  if (plain.any()) grammar.add_alternative(rule, {grammar.bytes(plain)});
  return rule;
}

Rule add_repetition(ByteGrammar& grammar, Rule rule, uint32_t least, std::optional<uint32_t> most) {
  const auto symbol = ByteGrammar::rule(rule);
  Rule rest = grammar.add_rule();
  grammar.add_alternative(rest, {});
  if (!most) {
    grammar.add_alternative(rest, {symbol, ByteGrammar::rule(rest)});
  } else {
    for (uint32_t left = *most; left > least; --left) {
      const Rule longer = grammar.add_rule();
      grammar.add_alternative(longer, {});
      grammar.add_alternative(longer, {symbol, ByteGrammar::rule(rest)});
      rest = longer;
    }
  }
  if (least == 0) return rest;
  Sequence sequence(least, symbol);
  sequence.push_back(ByteGrammar::rule(rest));
  const Rule whole = grammar.add_rule();
  grammar.add_alternative(whole, sequence);
  return whole;
}

std::string utf8_of(uint32_t character) {
  std::array<uint8_t, 4> bytes{};
  const size_t size = add_bytes_of(character, bytes.data());
  return {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)};
}

GrammarText::GrammarText(std::string_view text, std::string where) : where_(std::move(where)) {
  if (text.size() > kMostText)
    throw Error(ErrorCode::kUnsupported, where_, fmt::format("expected at most {} bytes, found {}", kMostText, text.size()));
  while (!text.empty()) {
    const size_t size = utf8_sequence_length(text);
    if (size == 0) throw Error(ErrorCode::kBadInput, where_, "expected UTF-8");
    constexpr std::array<uint8_t, 5> kBits = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t character = static_cast<uint8_t>(text[0]) & kBits[size];
    for (size_t i = 1; i < size; ++i) character = character << 6 | (static_cast<uint8_t>(text[i]) & 0x3F);
    // 0 means the end elsewhere.
    if (character == 0) refuse_at(characters_.size(), "expected no zero byte");
    characters_.push_back(character);
    text.remove_prefix(size);
  }
}

uint32_t GrammarText::take() {
  if (at_end()) refuse("more text");
  return characters_[at_++];
}

bool GrammarText::skip(std::string_view word) noexcept {
  for (size_t i = 0; i < word.size(); ++i) {
    if (peek(i) != static_cast<uint8_t>(word[i])) return false;
  }
  at_ += word.size();
  return true;
}

uint32_t GrammarText::hexadecimal(size_t digits) {
  uint32_t value = 0;
  for (size_t i = 0; i < digits; ++i) {
    const uint32_t c = peek();
    uint32_t digit = 0;
    if (c >= '0' && c <= '9') digit = c - '0';
    else if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    else if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
    else refuse(fmt::format("{} hexadecimal digits", digits));
    value = value << 4 | digit;
    ++at_;
  }
  if (value > kLastCharacter || (value >= 0xD800 && value <= 0xDFFF)) refuse_at(at_, "no character has this number");
  return value;
}

uint32_t GrammarText::number() {
  if (peek() < '0' || peek() > '9') refuse("a number");
  uint32_t value = 0;
  while (peek() >= '0' && peek() <= '9') {
    value = value * 10 + (take() - '0');
    if (value > kMostCount) refuse_at(at_, fmt::format("counts go up to {}", kMostCount));
  }
  return value;
}

std::optional<GrammarText::Repetition> GrammarText::repetition() {
  if (skip("*")) return Repetition{0, std::nullopt};
  if (skip("+")) return Repetition{1, std::nullopt};
  if (skip("?")) return Repetition{0, 1};
  if (skip("{")) return counts();
  return std::nullopt;
}

GrammarText::Repetition GrammarText::counts() {
  const size_t begin = at_;
  const uint32_t least = number();
  std::optional<uint32_t> most = least;
  if (skip(",")) {
    most.reset();
    if (peek() != '}') most = number();
  }
  if (!skip("}")) refuse("'}' after the counts");
  if (most && *most < least) refuse_at(begin, "the larger count comes first");
  return {least, most};
}

void GrammarText::refuse(std::string_view expected) const {
  const std::string found = at_end() ? "the end" : fmt::format("'{}'", utf8_of(peek()));
  refuse_at(at_, fmt::format("expected {}, found {}", expected, found));
}

void GrammarText::refuse_at(size_t place, std::string_view problem) const {
  throw Error(ErrorCode::kUnsupported, where_, fmt::format("character {}: {}", place + 1, problem));
}

}  // namespace tritllm
