// The filters that give numbers.
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "text/jinja/arguments.h"
#include "text/jinja/arithmetic.h"
#include "text/jinja/failure.h"
#include "text/jinja/filters.h"
#include "text/jinja/number_parsing.h"

namespace tritllm::jinja {
namespace {

// int() of a float; nothing for NaN and infinity.
std::optional<int64_t> whole_part(double number) {
  if (!std::isfinite(number)) return std::nullopt;
  if (!(std::fabs(number) < 0x1p63)) refuse("a whole number beyond 64 bits");
  return static_cast<int64_t>(number);
}

Value int_filter(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("int", arguments, {"default", "base"});
  if (is_undefined(input)) fail(fmt::format("int of an undefined value: {}", *input.get<Undefined>()->reason));
  std::optional<int64_t> result;
  if (is_integral(input)) {
    result = integral(input);
  } else if (const auto* number = input.get<double>()) {
    // Python's filter catches an infinity only on its second attempt.
    if (std::isinf(*number)) fail("an infinite number has no whole part");
    result = whole_part(*number);
  } else if (const TrackedText* text = input.text()) {
    budget.work(text->bytes.size() * 2);
    result = parse_integer(text->bytes, bound.integer(1, 10));
    if (!result) {
      if (const std::optional<double> parsed = parse_real(text->bytes)) result = whole_part(*parsed);
    }
  }
  if (result) return integer(*result);
  return bound.get(0) ? *bound.get(0) : integer(0);
}

Value float_filter(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("float", arguments, {"default"});
  if (is_undefined(input)) fail(fmt::format("float of an undefined value: {}", *input.get<Undefined>()->reason));
  if (is_integral(input)) return real(static_cast<double>(integral(input)));
  if (input.is<double>()) return input;
  if (const TrackedText* text = input.text()) {
    budget.work(text->bytes.size() * 2);
    if (const std::optional<double> parsed = parse_real(text->bytes)) return real(*parsed);
  }
  return bound.get(0) ? *bound.get(0) : real(0.0);
}

Value abs_filter(Budget&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("abs", arguments, {});
  if (const auto* number = input.get<double>()) return real(std::fabs(*number));
  if (is_undefined(input)) fail("abs of an undefined value");
  if (!is_integral(input)) fail(fmt::format("abs needs a number, found {}", type_name(input)));
  if (integral(input) == std::numeric_limits<int64_t>::min()) refuse("a whole number beyond 64 bits");
  return integer(std::abs(integral(input)));
}

// round(number, digits) as Python has it: exact halves of the decimal value go to the even digit.
double rounded(double number, int64_t digits) {
  if (!std::isfinite(number) || digits > 300) return number;
  if (digits < -300) return std::copysign(0.0, number);
  if (digits >= 0) {
    const std::string written = fmt::format("{:.{}f}", number, static_cast<int>(digits));
    return parse_real(written).value_or(number);
  }
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(number / unit) * unit;
}

Value round_filter(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("round", arguments, {"precision", "method"});
  const std::string method = bound.get(1) ? bound.text(1).bytes : "common";
  if (method != "common" && method != "ceil" && method != "floor") fail("round knows the methods common, ceil and floor");
  if (!is_integral(input) && !input.is<double>()) fail(fmt::format("round needs a number, found {}", type_name(input)));
  if (method == "common") {
    const int64_t digits = bound.get(0) && bound.get(0)->is<None>() ? 0 : bound.integer(0, 0);
    if (bound.get(0) && bound.get(0)->is<None>()) refuse("round without a precision");
    if (const auto* number = input.get<double>()) return real(rounded(*number, digits));
    if (digits < 0) refuse("rounding a whole number to tens");
    return integer(integral(input));
  }
  const Value scale = power(budget, integer(10), integer(bound.integer(0, 0)));
  const Value scaled = multiply(budget, input, scale);
  const double number = is_integral(scaled) ? static_cast<double>(integral(scaled)) : *scaled.get<double>();
  const std::optional<int64_t> whole = whole_part(method == "ceil" ? std::ceil(number) : std::floor(number));
  if (!whole) fail("an infinite number cannot be rounded");
  return divide(integer(*whole), scale);
}

}  // namespace

std::vector<NamedFilter> number_filters() {
  return {{"int", int_filter}, {"float", float_filter}, {"abs", abs_filter}, {"round", round_filter}};
}

}  // namespace tritllm::jinja
