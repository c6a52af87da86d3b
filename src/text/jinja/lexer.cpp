#include "text/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "core/error.h"
#include "text/jinja/limits.h"
#include "text/unicode.h"

namespace tritllm::jinja {
namespace {

constexpr std::string_view kSimpleEscapes = "nrtabfv\\'\"";
constexpr std::string_view kSimpleMeanings = "\n\r\t\a\b\f\v\\'\"";

bool is_octal(char c) noexcept { return c >= '0' && c <= '7'; }

// The number written with `digits` hexadecimal digits at `at`; moves behind them.
char32_t hexadecimal(std::string_view literal, size_t& at, size_t digits) {
  const std::string_view written = literal.substr(at, digits);
  uint32_t number = 0;
  const auto [end, problem] = std::from_chars(written.data(), written.data() + written.size(), number, 16);
  if (written.size() != digits || problem != std::errc() || end != written.data() + digits) fail("a broken \\x, \\u or \\U escape");
  if (number > 0x10ffff) fail("an escape beyond the last character of Unicode");
  if (number >= 0xd800 && number <= 0xdfff) refuse("half of a surrogate pair in a string");
  at += digits;
  return number;
}

char32_t octal(std::string_view literal, size_t& at) {
  char32_t number = 0;
  for (int digits = 0; digits < 3 && at < literal.size() && is_octal(literal[at]); ++digits, ++at) {
    number = number * 8 + static_cast<char32_t>(literal[at] - '0');
  }
  return number;
}

}  // namespace

std::string unescaped(std::string_view literal) {
  std::string result;
  for (size_t at = 0; at < literal.size();) {
    const char c = literal[at++];
    if (c != '\\') {
      result += c;
      continue;
    }
    const char escape = literal[at];  // the lexer never ends a literal with an odd backslash
    if (const size_t simple = kSimpleEscapes.find(escape); simple != std::string_view::npos) {
      result += kSimpleMeanings[simple];
      ++at;
    } else if (escape == '\n') {
      ++at;  // a line that goes on
    } else if (is_octal(escape)) {
      append_character(result, octal(literal, at));
    } else if (escape == 'x' || escape == 'u' || escape == 'U') {
      ++at;
      append_character(result, hexadecimal(literal, at, escape == 'x' ? 2 : escape == 'u' ? 4 : 8));
    } else if (escape == 'N') {
      refuse("a character by its name (\\N)");
    } else if (static_cast<unsigned char>(escape) >= 0x80) {
      refuse("a backslash before a character beyond ASCII");
    } else {
      result += c;  // other backslashes are kept, as in Python
    }
  }
  return result;
}

namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

// One kind of line end, and none at the very end.
std::string normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
      continue;
    }
    text += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& where) : where_(where), source_(normalized(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) read_text_and_tag();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  bool starts(std::string_view text) const noexcept { return std::string_view(source_).substr(at_, text.size()) == text; }

  bool starts_signed(char sign, std::string_view text) const noexcept {
    return source_[at_] == sign && std::string_view(source_).substr(at_ + 1, text.size()) == text;
  }

  void advance_to(size_t end) noexcept {
    line_ += static_cast<int>(
        std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_), source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    if (end > at_) line_starting_ = source_[end - 1] == '\n';
    at_ = end;
  }

  void skip_space() noexcept { advance_to(at_ + without_space(std::string_view(source_).substr(at_), true, false).begin); }

  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void add_text(std::string_view text) {
    if (!text.empty()) add(TokenKind::kText, std::string(text));
  }

  [[noreturn]] void fail_here(std::string_view problem) const {
    throw Error(ErrorCode::kBadInput, fmt::format("{}: line {}", where_, line_), problem);
  }

  [[noreturn]] void refuse_here(std::string_view construct) const {
    throw Error(ErrorCode::kUnsupported, fmt::format("{}: line {}", where_, line_),
                fmt::format("{} is not supported in chat templates", construct), "docs/chat_templates.md lists what is");
  }

  // The text before a tag whose opening carries `sign` ('-', '+' or none). `block`: a tag that prints nothing and so takes the
  // indentation before it along.
  std::string_view before_tag(std::string_view text, char sign, bool block) const noexcept {
    if (sign == '-') return text.substr(0, without_space(text, false, true).end);
    if (sign == '+' || !block) return text;
    const size_t newline = text.rfind('\n');
    const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
    if (line_begin == 0 && !line_starting_) return text;
    const std::string_view indentation = text.substr(line_begin);
    return without_space(indentation, true, false).begin == indentation.size() ? text.substr(0, line_begin) : text;
  }

  char sign_at(size_t at) const noexcept {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  static size_t sign_size(char sign) noexcept { return sign == '\0' ? 0 : 1; }

  void read_text_and_tag() {
    size_t tag = at_;
    do {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        add_text(std::string_view(source_).substr(at_));
        advance_to(source_.size());
        return;
      }
    } while (std::string_view("{%#").find(source_[tag + 1]) == std::string_view::npos && ++tag);
    const char kind = source_[tag + 1], sign = sign_at(tag + 2);
    add_text(before_tag(std::string_view(source_).substr(at_, tag - at_), sign, kind != '{'));
    advance_to(tag);
    if (kind == '#') {
      advance_to(tag + 2 + sign_size(sign));
      read_comment();
    } else if (kind == '%' && read_raw_begin(tag + 2 + sign_size(sign))) {
      read_raw();
    } else {
      add(kind == '{' ? TokenKind::kOutputBegin : TokenKind::kBlockBegin, "");
      advance_to(tag + 2 + sign_size(sign));
      read_expression(kind == '{' ? "}}" : "%}");
    }
  }

  // Ends a block or a comment: "+%}" leaves what follows, "-%}" takes all white space with it, "%}" one line end.
  bool read_end(std::string_view end, bool takes_line_end) {
    if (starts_signed('-', end)) {
      const size_t begin = at_;
      advance_to(begin + 1 + end.size());
      skip_space();
      return true;
    }
    if (takes_line_end && starts_signed('+', end)) {
      advance_to(at_ + 1 + end.size());
      return true;
    }
    if (!starts(end)) return false;
    const size_t after = at_ + end.size();
    advance_to(takes_line_end && after < source_.size() && source_[after] == '\n' ? after + 1 : after);
    return true;
  }

  void read_comment() {
    for (size_t i = at_; i < source_.size(); ++i) {
      const bool signed_end = (source_[i] == '-' || source_[i] == '+') && source_.compare(i + 1, 2, "#}") == 0;
      if (!signed_end && source_.compare(i, 2, "#}") != 0) continue;
      advance_to(i);
      read_end("#}", true);
      return;
    }
    fail_here("a comment without its end '#}'");
  }

  // "raw" behind an opening that ends at `at`: moves behind the tag.
  bool read_raw_begin(size_t at) {
    const std::string_view source = source_;
    at += without_space(source.substr(at), true, false).begin;
    if (source.substr(at, 3) != "raw") return false;
    at += 3;
    at += without_space(source.substr(at), true, false).begin;
    const bool strips = source.substr(at, 3) == "-%}";
    if (!strips && source.substr(at, 2) != "%}") return false;
    advance_to(at + (strips ? 3 : 2));
    if (strips) skip_space();
    return true;
  }

  void read_raw() {
    const std::string_view source = source_;
    for (size_t tag = source.find("{%", at_); tag != std::string_view::npos; tag = source.find("{%", tag + 1)) {
      const char sign = sign_at(tag + 2);
      size_t end = tag + 2 + sign_size(sign);
      end += without_space(source.substr(end), true, false).begin;
      if (source.substr(end, 6) != "endraw") continue;
      end += 6;
      end += without_space(source.substr(end), true, false).begin;
      if (source.substr(end, 2) != "%}" && source.substr(end, 3) != "-%}" && source.substr(end, 3) != "+%}") continue;
      add_text(before_tag(source.substr(at_, tag - at_), sign, true));
      advance_to(end);
      read_end("%}", true);
      return;
    }
    fail_here("a raw block without its end '{% endraw %}'");
  }

  void read_expression(std::string_view end) {
    const bool block = end == "%}";
    std::string open;  // the closing brackets still to come, the next one last
    while (true) {
      if (open.empty() && at_ < source_.size()) {
        const int line = line_;
        if (read_end(end, block)) {
          tokens_.push_back({block ? TokenKind::kBlockEnd : TokenKind::kOutputEnd, "", line});
          return;
        }
      }
      if (at_ >= source_.size()) fail_here(fmt::format("the template ends inside a tag; '{}' is missing", end));
      size_t next = at_;
      if (is_space(next_code_point(source_, next))) skip_space();
      else read_token(open);
    }
  }

  void read_token(std::string& open) {
    const char c = source_[at_];
    if (is_digit(c)) read_number();
    else if (c == '\'' || c == '"') read_string(c);
    else if (const size_t length = name_length(); length > 0) take(TokenKind::kName, length);
    else read_operator(open);
  }

  void take(TokenKind kind, size_t length) {
    add(kind, source_.substr(at_, length));
    advance_to(at_ + length);
  }

  size_t name_length() const noexcept {
    size_t end = at_;
    while (end < source_.size()) {
      size_t next = end;
      if (!is_name_part(next_code_point(source_, next))) break;
      end = next;
    }
    return end - at_;
  }

  // The digits of `allowed` from `from` on, with single underscores between them where `from` follows a digit or a prefix.
  size_t digits_end(size_t from, std::string_view allowed) const noexcept {
    const auto digit = [&](size_t i) { return i < source_.size() && allowed.find(source_[i]) != std::string_view::npos; };
    size_t end = from;
    while (digit(end) || (end < source_.size() && source_[end] == '_' && digit(end + 1))) ++end;
    return end;
  }

  size_t decimal_end(size_t from) const noexcept {
    return from < source_.size() && is_digit(source_[from]) ? digits_end(from, "0123456789") : from;
  }

  void read_number() {
    const size_t whole = decimal_end(at_);
    size_t end = whole;
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // the 0 of x.0.1 is an index
    if (!after_dot) {
      if (end < source_.size() && source_[end] == '.' && decimal_end(end + 1) > end + 1) end = decimal_end(end + 1);
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        const size_t sign = end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 1 : 0;
        if (decimal_end(end + 1 + sign) > end + 1 + sign) end = decimal_end(end + 1 + sign);
      }
    }
    if (end > whole) {
      take(TokenKind::kFloat, end - at_);
      return;
    }
    take(TokenKind::kInteger, integer_length(whole - at_));
  }

  size_t integer_length(size_t decimal_length) const {
    if (source_[at_] != '0') return decimal_length;
    const char prefix = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : '\0';
    if (prefix == 'x' || prefix == 'o' || prefix == 'b') refuse_here("a number that is not decimal");
    return digits_end(at_, "0") - at_;
  }

  void read_string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? size_t{2} : size_t{1};
    if (end >= source_.size()) fail_here("a string without its closing quote");
    try {
      add(TokenKind::kString, unescaped(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: line {}", where_, line_), error.problem(), error.remedy());
    }
    advance_to(end + 1);
  }

  void read_operator(std::string& open) {
    static constexpr std::array<std::string_view, 6> kPairs = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kSingles = "+-/*%~[](){}><=.:|,;";
    for (const std::string_view pair : kPairs) {
      if (starts(pair)) return take(TokenKind::kOperator, 2);
    }
    const char c = source_[at_];
    if (kSingles.find(c) == std::string_view::npos) {
      size_t end = at_;
      next_code_point(source_, end);
      fail_here(fmt::format("an unexpected character '{}' in a tag", source_.substr(at_, end - at_)));
    }
    if (c == '(') open += ')';
    if (c == '[') open += ']';
    if (c == '{') open += '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty() || open.back() != c) fail_here(fmt::format("a '{}' that closes nothing", c));
      open.pop_back();
    }
    take(TokenKind::kOperator, 1);
  }

  const std::string& where_;
  const std::string source_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // whether the last thing read ended with a line end, or nothing was read yet
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& where) { return Lexer(source, where).run(); }

namespace {

std::string shown(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText: return "text";
    case TokenKind::kOutputBegin: return "'{{'";
    case TokenKind::kOutputEnd: return "'}}'";
    case TokenKind::kBlockBegin: return "'{%'";
    case TokenKind::kBlockEnd: return "'%}'";
    case TokenKind::kString: return "a string";
    case TokenKind::kEnd: return "the end of the template";
    default: return fmt::format("'{}'", token.text.substr(0, 40));
  }
}

}  // namespace

bool TokenStream::at_any_name(std::initializer_list<std::string_view> names) const noexcept {
  return at(TokenKind::kName) && std::find(names.begin(), names.end(), current().text) != names.end();
}

Token TokenStream::take() {
  if (at_ + 1 >= tokens_.size()) return current();
  return std::move(tokens_[at_++]);
}

bool TokenStream::take_name(std::string_view name) {
  if (!at_name(name)) return false;
  skip();
  return true;
}

bool TokenStream::take_operator(std::string_view text) {
  if (!at_operator(text)) return false;
  skip();
  return true;
}

Token TokenStream::expect(TokenKind kind, std::string_view what) {
  if (!at(kind)) fail_expected(what);
  return take();
}

void TokenStream::expect_operator(std::string_view text) {
  if (!take_operator(text)) fail_expected(fmt::format("'{}'", text));
}

void TokenStream::expect_name(std::string_view name) {
  if (!take_name(name)) fail_expected(fmt::format("'{}'", name));
}

void TokenStream::fail(std::string_view problem, int line) const {
  throw Error(ErrorCode::kBadInput, fmt::format("{}: line {}", where_, line), problem);
}

void TokenStream::fail_expected(std::string_view what) const { fail(fmt::format("expected {}, found {}", what, shown(current()))); }

void TokenStream::refuse(std::string_view construct, int line) const {
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: line {}", where_, line),
              fmt::format("{} is not supported in chat templates", construct), "docs/chat_templates.md lists what is");
}

}  // namespace tritllm::jinja
