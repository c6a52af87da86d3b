#include "text/jinja/format_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/failure.h"
#include "text/jinja/print.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"

namespace tritllm::jinja {
namespace {

constexpr int64_t kWidthLimit = 10'000;
constexpr int64_t kPrecisionLimit = 300;
constexpr std::string_view kAligns = "<>^=";

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

int64_t take_number(std::string_view& spec) {
  int64_t number = 0;
  while (!spec.empty() && is_digit(spec.front())) {
    number = number * 10 + (spec.front() - '0');
    if (number > kWidthLimit) fail(fmt::format("a field is wider than the limit of {}", kWidthLimit));
    spec.remove_prefix(1);
  }
  return number;
}

bool take(std::string_view& spec, char c) {
  if (spec.empty() || spec.front() != c) return false;
  spec.remove_prefix(1);
  return true;
}

struct Number {
  std::string sign, digits;
};

std::string sign_of(bool negative, char style) { return negative ? "-" : style == '-' ? "" : std::string(1, style); }

std::string grouped(const std::string& digits) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string result;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) result += ',';
    result += digits[i];
  }
  return result + digits.substr(whole);
}

Number whole_number(int64_t value, const FormatSpec& spec) {
  if (spec.precision >= 0) fail("a whole number is formatted without a precision");
  const uint64_t magnitude = value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::string digits;
  switch (spec.type) {
    case '\0':
    case 'd': digits = fmt::format("{}", magnitude); break;
    case 'x': digits = fmt::format("{}{:x}", spec.alternate ? "0x" : "", magnitude); break;
    case 'X': digits = fmt::format("{}{:X}", spec.alternate ? "0X" : "", magnitude); break;
    case 'o': digits = fmt::format("{}{:o}", spec.alternate ? "0o" : "", magnitude); break;
    case 'b': digits = fmt::format("{}{:b}", spec.alternate ? "0b" : "", magnitude); break;
    default: refuse(fmt::format("the format '{}' of a whole number", spec.type));
  }
  return {sign_of(value < 0, spec.sign), spec.grouped ? grouped(digits) : digits};
}

Number real_number(double value, const FormatSpec& spec) {
  const int precision = static_cast<int>(spec.precision < 0 ? 6 : std::min(spec.precision, kPrecisionLimit));
  const double magnitude = std::fabs(value);
  std::string digits;
  if (!std::isfinite(value)) {
    digits = std::isnan(value) ? "nan" : "inf";
  } else {
    switch (spec.type) {
      case 'f':
      case 'F': digits = fmt::format("{:.{}f}", magnitude, precision); break;
      case 'e':
      case 'E': digits = fmt::format("{:.{}e}", magnitude, precision); break;
      case 'g':
      case 'G': digits = fmt::format("{:.{}g}", magnitude, std::max(precision, 1)); break;
      case '%': digits = fmt::format("{:.{}f}%", magnitude * 100, precision); break;
      case '\0':
        if (spec.precision >= 0) refuse("a precision without the letter f, e or g");
        digits = repr(magnitude);
        break;
      default: refuse(fmt::format("the format '{}' of a number", spec.type));
    }
    if (spec.type == 'E' || spec.type == 'G') std::transform(digits.begin(), digits.end(), digits.begin(), ::toupper);
  }
  return {sign_of(std::signbit(value) && !std::isnan(value), spec.sign), spec.grouped ? grouped(digits) : digits};
}

bool is_real_type(char type) noexcept { return type != '\0' && std::string_view("fFeEgG%").find(type) != std::string_view::npos; }

TrackedText padded(Budget& budget, const TrackedText& text, const FormatSpec& spec, char default_align) {
  const char align = spec.align ? spec.align : default_align;
  auto [left, right] = centering(count_code_points(text.bytes), spec.width);
  // Unlike str.center, an odd column goes to the right here.
  const size_t padding = left + right;
  left = align == '<' ? 0 : align == '^' ? padding / 2 : padding;
  right = padding - left;
  TrackedText fill;
  append_code_point(fill.bytes, spec.fill);
  TrackedText result = repeated(budget, fill, static_cast<int64_t>(left));
  append(result, text);
  append(result, repeated(budget, fill, static_cast<int64_t>(right)));
  return result;
}

TrackedText formatted_number(Budget& budget, const Number& number, const FormatSpec& spec) {
  if (spec.align != '=') return padded(budget, template_text(number.sign + number.digits), spec, '>');
  FormatSpec rest = spec;
  rest.align = '>';
  rest.width = std::max<int64_t>(0, spec.width - static_cast<int64_t>(number.sign.size()));
  if (spec.grouped && spec.fill == '0') refuse("zeros before a number with commas");
  TrackedText result = template_text(number.sign);
  append(result, padded(budget, template_text(number.digits), rest, '>'));
  return result;
}

TrackedText formatted_text(Budget& budget, const TrackedText& text, const FormatSpec& spec) {
  if (spec.sign != '-' || spec.grouped || spec.alternate || spec.align == '=')
    fail("a field for a text has the layout of a number");
  if (spec.precision < 0) return padded(budget, text, spec, '<');
  return padded(budget, slice(text, 0, byte_of_code_point(text.bytes, static_cast<size_t>(spec.precision))), spec, '<');
}

}  // namespace

FormatSpec parse_format_spec(std::string_view spec) {
  FormatSpec result;
  size_t first = 0;
  if (!spec.empty()) next_code_point(spec, first);
  if (first < spec.size() && kAligns.find(spec[first]) != std::string_view::npos) {
    size_t at = 0;
    result.fill = next_code_point(spec, at);
    result.align = spec[first];
    spec.remove_prefix(first + 1);
  } else if (!spec.empty() && kAligns.find(spec.front()) != std::string_view::npos) {
    result.align = spec.front();
    spec.remove_prefix(1);
  }
  for (const char sign : {'+', '-', ' '}) {
    if (!take(spec, sign)) continue;
    result.sign = sign;
    break;
  }
  result.alternate = take(spec, '#');
  if (!spec.empty() && spec.front() == '0') {
    spec.remove_prefix(1);
    if (result.align == '\0') {
      result.fill = '0';
      result.align = '=';
    }
  }
  result.width = take_number(spec);
  result.grouped = take(spec, ',');
  if (take(spec, '.')) {
    if (spec.empty() || !is_digit(spec.front())) fail("a format lacks the digits of its precision");
    result.precision = take_number(spec);
  }
  if (spec.size() > 1) fail("a format that cannot be read");
  if (!spec.empty()) result.type = spec.front();
  return result;
}

TrackedText formatted(Budget& budget, const Value& value, const FormatSpec& spec) {
  const bool plain_boolean = value.is<bool>() && spec.type == '\0';
  if (is_integral(value) && !plain_boolean) {
    if (is_real_type(spec.type)) return formatted_number(budget, real_number(static_cast<double>(integral(value)), spec), spec);
    return formatted_number(budget, whole_number(integral(value), spec), spec);
  }
  if (const auto* number = value.get<double>()) return formatted_number(budget, real_number(*number, spec), spec);
  if (spec.type != '\0' && spec.type != 's')
    fail(fmt::format("the format '{}' does not suit a value of type {}", spec.type, type_name(value)));
  if (!value.text()) refuse(fmt::format("a layout for a value of type {}", type_name(value)));
  return formatted_text(budget, *value.text(), spec);
}

}  // namespace tritllm::jinja
