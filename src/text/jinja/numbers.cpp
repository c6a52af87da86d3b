#include "text/jinja/numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>

#include "text/jinja/limits.h"
#include "text/unicode.h"

namespace tritllm::jinja {
namespace {

bool is_digit_of(char c, int64_t base) noexcept {
  const int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10 : c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
  return value < base;
}

// The digits without the underscores that may stand between two of them; nothing where one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto alphanumeric = [&](size_t at) { return at < text.size() && is_digit_of(text[at], 36); };
    if (text[i] != '_') result += text[i];
    else if (i == 0 || !alphanumeric(i - 1) || !alphanumeric(i + 1)) return std::nullopt;
  }
  return result;
}

std::string_view trimmed(std::string_view text) noexcept {
  const Bounds bounds = without_space(text, true, true);
  return text.substr(bounds.begin, bounds.end - bounds.begin);
}

bool take_sign(std::string_view& text) noexcept {
  const bool negative = !text.empty() && text.front() == '-';
  if (negative || (!text.empty() && text.front() == '+')) text.remove_prefix(1);
  return negative;
}

int64_t base_of_prefix(std::string_view text) noexcept {
  if (text.size() < 2 || text[0] != '0') return 0;
  switch (text[1] | 0x20) {
    case 'x': return 16;
    case 'o': return 8;
    case 'b': return 2;
    default: return 0;
  }
}

void refuse_other_digits(std::string_view text) {
  const auto beyond_ascii = [](char c) { return static_cast<unsigned char>(c) >= 0x80; };
  if (std::none_of(text.begin(), text.end(), beyond_ascii)) return;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c >= 0x80 && is_decimal(c)) refuse("a number in digits other than 0 to 9");
  }
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) fail("a number's base must be 0 or from 2 to 36");
  refuse_other_digits(text);
  text = trimmed(text);
  const bool negative = take_sign(text);
  const int64_t prefix = base_of_prefix(text);
  if (prefix != 0 && (base == 0 || base == prefix)) {
    text.remove_prefix(2);
    if (!text.empty() && text.front() == '_') text.remove_prefix(1);
    base = prefix;
  } else if (base == 0) {
    base = 10;
    if (text.size() > 1 && text.front() == '0' && text.find_first_not_of("0_") != std::string_view::npos) return std::nullopt;
  }
  const std::optional<std::string> digits = without_underscores(text);
  if (!digits || digits->empty()) return std::nullopt;
  if (!std::all_of(digits->begin(), digits->end(), [&](char c) { return is_digit_of(c, base); })) return std::nullopt;
  const std::string written = (negative ? "-" : "") + *digits;
  int64_t value = 0;
  const auto read = std::from_chars(written.data(), written.data() + written.size(), value, static_cast<int>(base));
  if (read.ec != std::errc()) refuse("a whole number beyond 64 bits");
  return value;
}

std::optional<double> parse_real(std::string_view text) {
  refuse_other_digits(text);
  text = trimmed(text);
  const bool negative = take_sign(text);
  std::string lower(text.substr(0, 9));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  double value = 0;
  if (text.size() == lower.size() && (lower == "inf" || lower == "infinity")) {
    value = std::numeric_limits<double>::infinity();
  } else if (lower == "nan" && text.size() == 3) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    const std::optional<std::string> digits = without_underscores(text);
    if (!digits || digits->empty() || !(is_digit_of(digits->front(), 10) || digits->front() == '.')) return std::nullopt;
    const char* end = digits->data() + digits->size();
    const auto read = std::from_chars(digits->data(), end, value);
    if (read.ptr != end) return std::nullopt;
    if (read.ec == std::errc::result_out_of_range) refuse("a number beyond the range of 64-bit floating point");
    if (read.ec != std::errc()) return std::nullopt;
  }
  return negative ? -value : value;
}

}  // namespace tritllm::jinja
