#include "text/pattern.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/error.h"
#include "text/unicode.h"

namespace tritllm {
namespace {

constexpr size_t kLongestPattern = 8192;
constexpr size_t kDeepestGroup = 32;
constexpr unsigned kLargestRepeat = 1000;

// Oniguruma's \s is White_Space; PCRE2's also matches U+180E. Oniguruma's \w is this union; PCRE2's takes all of N.
constexpr std::string_view kSpace = R"(\p{White_Space})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

constexpr std::array<std::string_view, 37> kCategories{
    "C", "Cc", "Cf", "Cn", "Co", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl",        "No",
    "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs", "Alphabetic"};
constexpr std::array<std::string_view, 9> kScripts{"Han",   "Hiragana", "Katakana", "Hangul", "Latin",
                                                   "Greek", "Cyrillic", "Arabic",   "Thai"};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string translate() {
    if (in_.size() > kLongestPattern) refuse(fmt::format("a pattern of {} bytes", in_.size()));
    groups_.push_back({});
    while (at_ < in_.size()) element();
    if (groups_.size() != 1) refuse("a group that does not end");
    return std::move(out_);
  }

 private:
  struct Group {
    size_t start = 0;  // where it starts in out_
    bool ignores_case = false;
    bool repeatable = true;  // not a look-around
  };

  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(
        ErrorCode::kUnsupported, where_,
        fmt::format("the regular expression has {} at byte {}, which is not supported: {}", printable(what), at_, printable(in_)),
        "use a model whose patterns are like those of GPT-2, Llama, Qwen, Mistral or Gemma");
  }

  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  bool take(std::string_view text) {
    if (!next_is(text)) return false;
    at_ += text.size();
    return true;
  }
  Group& group() { return groups_.back(); }

  // What a quantifier behind it repeats.
  void emit_atom(std::string_view text) {
    atom_ = out_.size();
    out_ += text;
  }
  void emit_assertion(std::string_view text) {
    atom_.reset();
    out_ += text;
  }

  void element() {
    const char c = in_[at_];
    if (c != '(' && c != ')' && c != '|' && !is_quantifier()) return atom(c);
    fold_run_.clear();
    if (c == '(') return open_group();
    if (c == ')') return close_group();
    if (c == '|') {
      ++at_;
      return emit_assertion("|");
    }
    quantifier();
  }

  void atom(char c) {
    if (c == '[' || c == '.' || c == '^' || c == '$' || c == '\\') fold_run_.clear();
    if (c == '[') return bracket_class();
    if (c == '\\') return escape();
    if (c == '.') {
      ++at_;
      return emit_atom(".");
    }
    if (c == '^' || c == '$') {
      ++at_;
      return emit_assertion(std::string_view(&in_[at_ - 1], 1));
    }
    literal();
  }

  void literal() {
    const Character character = character_at(in_, at_);
    if (group().ignores_case) check_folding(character.code_point);
    at_ += character.length;
    emit_atom(quoted(character.code_point));
  }

  // Oniguruma lets several characters match one that folds to them ("ss" and the sharp s); PCRE2 does not.
  void check_folding(uint32_t code_point) {
    if (code_point >= 0x80) refuse("a letter outside of ASCII under (?i)");
    const char c = static_cast<char>(code_point);
    fold_run_ += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    for (const std::string_view pair : {"ss", "ff", "fi", "fl", "st"}) {
      if (fold_run_.ends_with(pair)) refuse(fmt::format("\"{}\" under (?i)", pair));
    }
  }

  static std::string quoted(uint32_t code_point) {
    std::string text;
    append_character(text, code_point);
    if (code_point >= 0x80 || is_letter(text[0]) || is_digit(text[0])) return text;
    if (code_point <= 0x20 || code_point == 0x7f) return fmt::format("\\x{{{:x}}}", code_point);
    return "\\" + text;
  }

  void open_group() {
    Group opened{.start = out_.size(), .ignores_case = group().ignores_case};
    ++at_;
    std::string_view text = "(?:";
    if (take("?:")) {
    } else if (take("?i:")) {
      opened.ignores_case = true;
      text = "(?i:";
    } else if (take("?>")) {
      text = "(?>";
    } else if (in_.substr(at_).starts_with("?=") || next_is("?!") || next_is("?<=") || next_is("?<!")) {
      const size_t length = in_[at_ + 1] == '<' ? 3 : 2;
      text = in_.substr(at_ - 1, length + 1);
      at_ += length;
      opened.repeatable = false;
    } else if (next_is("?i)") && (out_.empty() || out_.ends_with("(?:"))) {
      at_ += 3;
      group().ignores_case = true;
      return emit_assertion("(?i)");
    } else if (next_is("?")) {
      refuse(fmt::format("the group \"({}\"", in_.substr(at_, 3)));
    }
    if (groups_.size() > kDeepestGroup) refuse("groups nested too deeply");
    groups_.push_back(opened);
    emit_assertion(text);
  }

  void close_group() {
    if (groups_.size() == 1) refuse("a ')' that closes nothing");
    ++at_;
    out_ += ')';
    atom_.reset();
    if (group().repeatable) atom_ = group().start;
    groups_.pop_back();
  }

  bool is_quantifier() const {
    const char c = in_[at_];
    return c == '*' || c == '+' || c == '?' || (c == '{' && interval_end());
  }

  // Where {n}, {n,}, {,m} or {n,m} ends; any other brace is a literal.
  std::optional<size_t> interval_end() const {
    size_t i = at_ + 1;
    size_t digits = 0, commas = 0;
    for (; i < in_.size() && (is_digit(in_[i]) || in_[i] == ','); ++i) (in_[i] == ',' ? commas : digits) += 1;
    if (i >= in_.size() || in_[i] != '}' || digits == 0 || commas > 1) return std::nullopt;
    return i;
  }

  void quantifier() {
    if (!atom_) refuse("a quantifier with nothing to repeat");
    const bool is_interval = in_[at_] == '{';
    bool is_fixed = false;
    std::string text = is_interval ? interval(is_fixed) : std::string(1, in_[at_++]);
    if (take("?")) {
      if (is_fixed) refuse("a lazy {n}");
      text += '?';
    } else if (take("+")) {
      // In Oniguruma's syntax the plus behind an interval repeats it; behind the other quantifiers it makes them possessive.
      if (is_interval) {
        out_.insert(*atom_, "(?:");
        text += ")";
      }
      text += '+';
    }
    out_ += text;
    atom_.reset();
  }

  std::string interval(bool& is_fixed) {
    const size_t end = *interval_end();
    const std::string_view inside = in_.substr(at_ + 1, end - at_ - 1);
    const size_t comma = inside.find(',');
    is_fixed = comma == std::string_view::npos;
    const unsigned least = number(inside.substr(0, comma));
    std::string text = fmt::format("{{{}", least);
    if (!is_fixed) {
      const std::string_view most = inside.substr(comma + 1);
      text += ',';
      if (!most.empty()) {
        if (number(most) < least) refuse("an interval that ends before it starts");
        text += fmt::to_string(number(most));
      }
    }
    at_ = end + 1;
    return text + '}';
  }

  unsigned number(std::string_view digits) const {
    unsigned value = 0;
    for (const char digit : digits) {
      value = value * 10 + static_cast<unsigned>(digit - '0');
      if (value > kLargestRepeat) refuse(fmt::format("more than {} repetitions", kLargestRepeat));
    }
    return value;
  }

  void escape() {
    if (take("\\A")) return emit_assertion("\\A");
    if (take("\\z")) return emit_assertion("\\z");
    if (take("\\Z")) return emit_assertion("\\Z");
    if (const auto code_point = escaped_character()) {
      if (group().ignores_case) check_folding(*code_point);
      return emit_atom(quoted(*code_point));
    }
    bool is_negated = false;
    const std::string members = escaped_class(is_negated);
    emit_atom(fmt::format("[{}{}]", is_negated ? "^" : "", members));
  }

  // The one character of an escape such as \n, \x{2581} or \-, or nothing where the escape is a class.
  std::optional<uint32_t> escaped_character() {
    if (at_ + 1 >= in_.size()) refuse("a backslash at its end");
    const char c = in_[at_ + 1];
    if (!is_letter(c) && !is_digit(c)) {
      const Character character = character_at(in_, at_ + 1);
      at_ += 1 + character.length;
      return character.code_point;
    }
    static constexpr std::string_view kNames = "tnvfrae";
    static constexpr std::array<uint32_t, 7> kValues{0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x07, 0x1b};
    if (const size_t i = kNames.find(c); i != std::string_view::npos) {
      at_ += 2;
      return kValues[i];
    }
    if (c == 'x' || c == 'u') return hexadecimal(c);
    return std::nullopt;
  }

  uint32_t hexadecimal(char kind) {
    const std::string_view rest = in_.substr(at_ + 2);
    const bool braces = kind == 'x' && rest.starts_with('{');
    const size_t end = braces ? rest.find('}') : kind == 'u' ? 4 : 2;
    const std::string_view digits = end > rest.size() ? "" : braces ? rest.substr(1, end - 1) : rest.substr(0, end);
    uint32_t value = 0;
    for (const char digit : digits) {
      const size_t place = std::string_view("0123456789abcdefABCDEF").find(digit);
      if (place == std::string_view::npos || value > 0x10ffff) refuse("a bad code point");
      value = value * 16 + static_cast<uint32_t>(place < 16 ? place : place - 6);
    }
    const bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
    // Without braces \xHH is a byte, and bytes from 0x80 on are not characters.
    if (digits.empty() || value > 0x10ffff || is_surrogate || (kind == 'x' && !braces && value >= 0x80)) refuse("a bad code point");
    at_ += 2 + end + (braces ? 1 : 0);
    return value;
  }

  // The members of an escape such as \s or \p{L}, to stand in square brackets.
  std::string escaped_class(bool& is_negated) {
    const char c = in_[at_ + 1];
    if (c == 'p' || c == 'P') return property(is_negated);
    is_negated = c >= 'A' && c <= 'Z';
    at_ += 2;
    switch (is_negated ? c + 32 : c) {
      case 's': return std::string(kSpace);
      case 'd': return R"(\p{Nd})";
      case 'w': return std::string(kWord);
      case 'h': return "0-9A-Fa-f";
      default: at_ -= 2; refuse(fmt::format("the escape \"\\{}\"", c));
    }
  }

  std::string property(bool& is_negated) {
    const size_t close = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == std::string_view::npos) refuse("\\p without braces");
    std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    is_negated = in_[at_ + 1] == 'P';
    if (name.starts_with('^')) {
      is_negated = !is_negated;
      name.remove_prefix(1);
    }
    const bool is_cased = name == "Lu" || name == "Ll" || name == "Lt";
    if (is_cased && group().ignores_case) refuse("a property of case under (?i)");
    // By a script alone PCRE2 would mean the extended set.
    const bool is_script = std::ranges::find(kScripts, name) != kScripts.end();
    if (!is_script && std::ranges::find(kCategories, name) == kCategories.end()) refuse(fmt::format("the property \"{}\"", name));
    at_ = close + 1;
    return fmt::format("\\p{{{}{}}}", is_script ? "sc:" : "", name);
  }

  void bracket_class() {
    ++at_;
    std::string text = take("^") ? "[^" : "[";
    if (at_ < in_.size() && in_[at_] == ']') refuse("an empty class");
    bool can_range = false;  // whether the member before is a character that a range may start with
    for (bool is_first = true; !take("]"); is_first = false) {
      if (at_ >= in_.size()) refuse("a class that does not end");
      if (next_is("&&")) refuse("an intersection of classes");
      if (in_[at_] == '[') refuse("a class within a class");
      if (in_[at_] == '-' && !is_first && !next_is("-]")) {
        if (!can_range) refuse("a hyphen that neither joins a range nor stands at an end of its class");
        ++at_;
        text += '-' + range_end();
        can_range = false;
        continue;
      }
      text += class_member(can_range);
    }
    emit_atom(text + ']');
  }

  std::string class_member(bool& can_range) {
    if (in_[at_] != '\\') {
      can_range = in_[at_] != '-';
      return class_character();
    }
    if (const auto code_point = escaped_character()) {
      can_range = true;
      return quoted(*code_point);
    }
    can_range = false;
    bool is_negated = false;
    const std::string members = escaped_class(is_negated);
    if (!is_negated) return members;
    if (!members.starts_with("\\p") || members.find('}') != members.size() - 1) refuse("a negated class within a class");
    return "\\P" + members.substr(2);
  }

  std::string class_character() {
    const Character character = character_at(in_, at_);
    at_ += character.length;
    return quoted(character.code_point);
  }

  std::string range_end() {
    if (in_[at_] == '\\') {
      const auto code_point = escaped_character();
      if (!code_point) refuse("a range that ends in a class");
      return quoted(*code_point);
    }
    if (in_[at_] == '[' || in_[at_] == '-') refuse("a range that ends in a bracket or hyphen");
    return class_character();
  }

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
  std::optional<size_t> atom_;  // where in out_ the thing starts that a quantifier would repeat
  std::vector<Group> groups_;   // those that are open, with the whole pattern as the first
  std::string fold_run_;        // the literal characters before this place that stand next to each other
};

}  // namespace

std::string translate_regex(std::string_view oniguruma, const std::string& where) {
  return Translator(oniguruma, where).translate();
}

}  // namespace tritllm
