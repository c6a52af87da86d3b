#include "text/jinja/string_literal.h"

#include <charconv>
#include <cstdint>

#include "text/jinja/failure.h"
#include "text/jinja/unicode.h"

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
      append_code_point(result, octal(literal, at));
    } else if (escape == 'x' || escape == 'u' || escape == 'U') {
      ++at;
      append_code_point(result, hexadecimal(literal, at, escape == 'x' ? 2 : escape == 'u' ? 4 : 8));
    } else if (escape == 'N') {
      refuse("a character by its name (\\N)");
    } else if (static_cast<unsigned char>(escape) >= 0x80) {
      refuse("a backslash before a character beyond ASCII");
    } else {
      result += c;  // what is no escape stays as it is, backslash included
    }
  }
  return result;
}

}  // namespace tritllm::jinja
