#include "text/jinja/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "text/jinja/formatting.h"
#include "text/jinja/limits.h"
#include "text/jinja/text.h"

namespace tritllm::jinja {
namespace {

[[noreturn]] void fail_types(std::string_view op, const Value& left, const Value& right) {
  for (const Value* side : {&left, &right}) {
    if (is_undefined(*side)) fail(reason_of(*side));
  }
  fail(fmt::format("the operator {} does not work on the types {} and {}", op, type_name(left), type_name(right)));
}

[[noreturn]] void refuse_overflow() { refuse("a whole number beyond 64 bits"); }

bool is_number(const Value& value) noexcept { return is_integral(value) || value.is<double>(); }

double as_real(const Value& value) noexcept {
  const auto* number = value.get<double>();
  return number ? *number : static_cast<double>(integral(value));
}

void require_numbers(std::string_view op, const Value& left, const Value& right) {
  if (!is_number(left) || !is_number(right)) fail_types(op, left, right);
}

bool both_integral(const Value& left, const Value& right) noexcept { return is_integral(left) && is_integral(right); }

void require_not_zero(const Value& right) {
  if (as_real(right) == 0) fail("division by zero");
}

bool are_both(bool (*predicate)(const Value&) noexcept, const Value& left, const Value& right) {
  return predicate(left) && predicate(right);
}

Value add_texts(Budget& budget, const TrackedText& left, const TrackedText& right) {
  if (left.markup != right.markup) return add_texts(budget, escaped(budget, left), escaped(budget, right));
  budget.work((left.bytes.size() + right.bytes.size()) * 2 + (left.input.size() + right.input.size()) * sizeof(TextSpan));
  TrackedText sum = left;
  append(sum, right);
  return text_value(std::move(sum));
}

Value add_sequences(Budget& budget, const Value& left, const Value& right) {
  std::vector<Value> items = left.sequence()->items;
  const std::vector<Value>& more = right.sequence()->items;
  budget.work((items.size() + more.size()) * sizeof(Value) * 2);
  items.insert(items.end(), more.begin(), more.end());
  return is_list(left) ? list_value(std::move(items)) : tuple_value(std::move(items));
}

Value repeat_sequence(Budget& budget, const Value& sequence, int64_t count) {
  const std::vector<Value>& items = sequence.sequence()->items;
  std::vector<Value> result;
  for (int64_t i = 0; i < count && !items.empty(); ++i) {
    budget.work(items.size() * sizeof(Value) * 2);
    result.insert(result.end(), items.begin(), items.end());
  }
  return is_list(sequence) ? list_value(std::move(result)) : tuple_value(std::move(result));
}

double floor_modulo(double left, double right) {
  double rest = std::fmod(left, right);
  if (rest != 0 && (rest < 0) != (right < 0)) rest += right;
  return rest == 0 ? std::copysign(0.0, right) : rest;
}

double floor_quotient(double left, double right) {
  const double rest = std::fmod(left, right);
  double quotient = (left - rest) / right;
  if (rest != 0 && (rest < 0) != (right < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(0.0, left / right);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

int64_t integer_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) refuse_overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) refuse_overflow();
  }
  return result;
}

}  // namespace

Value add(Budget& budget, const Value& left, const Value& right) {
  if (left.text() && right.text()) return add_texts(budget, *left.text(), *right.text());
  if (are_both(is_list, left, right) || are_both(is_tuple, left, right)) return add_sequences(budget, left, right);
  require_numbers("+", left, right);
  if (!both_integral(left, right)) return real(as_real(left) + as_real(right));
  int64_t sum;
  if (__builtin_add_overflow(integral(left), integral(right), &sum)) refuse_overflow();
  return integer(sum);
}

Value subtract(const Value& left, const Value& right) {
  require_numbers("-", left, right);
  if (!both_integral(left, right)) return real(as_real(left) - as_real(right));
  int64_t difference;
  if (__builtin_sub_overflow(integral(left), integral(right), &difference)) refuse_overflow();
  return integer(difference);
}

Value multiply(Budget& budget, const Value& left, const Value& right) {
  if (is_integral(left) && !is_number(right)) return multiply(budget, right, left);
  if (left.text() && is_integral(right)) {
    return text_value(repeated(budget, *left.text(), integral(right)));
  }
  if ((is_list(left) || is_tuple(left)) && is_integral(right)) return repeat_sequence(budget, left, integral(right));
  require_numbers("*", left, right);
  if (!both_integral(left, right)) return real(as_real(left) * as_real(right));
  int64_t product;
  if (__builtin_mul_overflow(integral(left), integral(right), &product)) refuse_overflow();
  return integer(product);
}

Value divide(const Value& left, const Value& right) {
  require_numbers("/", left, right);
  require_not_zero(right);
  constexpr int64_t kExact = int64_t{1} << 53;
  const auto inexact = [](const Value& value) {
    return is_integral(value) && (integral(value) > kExact || integral(value) < -kExact);
  };
  if (both_integral(left, right) && (inexact(left) || inexact(right))) refuse("dividing whole numbers beyond 53 bits");
  return real(as_real(left) / as_real(right));
}

Value floor_divide(const Value& left, const Value& right) {
  require_numbers("//", left, right);
  require_not_zero(right);
  if (!both_integral(left, right)) return real(floor_quotient(as_real(left), as_real(right)));
  const int64_t a = integral(left), b = integral(right);
  if (a == std::numeric_limits<int64_t>::min() && b == -1) refuse_overflow();
  return integer(a / b - (a % b != 0 && (a % b < 0) != (b < 0) ? 1 : 0));
}

Value modulo(Budget& budget, const Value& left, const Value& right) {
  if (left.text()) {
    return text_value(percent_formatted(budget, *left.text(), right));
  }
  require_numbers("%", left, right);
  require_not_zero(right);
  if (!both_integral(left, right)) return real(floor_modulo(as_real(left), as_real(right)));
  const int64_t a = integral(left), b = integral(right);
  if (b == -1) return integer(0);
  const int64_t rest = a % b;
  return integer(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

Value power(Budget& budget, const Value& left, const Value& right) {
  budget.step();
  require_numbers("**", left, right);
  if (both_integral(left, right) && integral(right) >= 0) return integer(integer_power(integral(left), integral(right)));
  const double base = as_real(left), exponent = as_real(right);
  if (base == 0 && exponent < 0) fail("zero to a negative power");
  if (base < 0 && std::isfinite(exponent) && exponent != std::trunc(exponent)) refuse("a power that is a complex number");
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) fail("a power beyond the range of numbers");
  return real(result);
}

Value negated(const Value& value) {
  if (const auto* number = value.get<double>()) return real(-*number);
  if (is_undefined(value)) fail(reason_of(value));
  if (!is_integral(value)) fail(fmt::format("the operator - does not work on the type {}", type_name(value)));
  if (integral(value) == std::numeric_limits<int64_t>::min()) refuse_overflow();
  return integer(-integral(value));
}

Value unchanged_number(const Value& value) {
  if (is_undefined(value)) fail(reason_of(value));
  if (value.is<double>()) return value;
  if (!is_integral(value)) fail(fmt::format("the operator + does not work on the type {}", type_name(value)));
  return integer(integral(value));
}

namespace {

constexpr size_t kKeyTupleLimit = 16;

// Exact, unlike a conversion of the integer to double.
std::partial_ordering order_mixed(int64_t left, double right) noexcept {
  if (std::isnan(right)) return std::partial_ordering::unordered;
  if (right >= 0x1p63) return std::partial_ordering::less;
  if (right < -0x1p63) return std::partial_ordering::greater;
  const auto whole = static_cast<int64_t>(right);
  if (left != whole) return left <=> whole;
  const double rest = right - std::trunc(right);
  return rest > 0 ? std::partial_ordering::less : rest < 0 ? std::partial_ordering::greater : std::partial_ordering::equivalent;
}

std::partial_ordering order_numbers(const Value& left, const Value& right) noexcept {
  if (is_integral(left) && is_integral(right)) return integral(left) <=> integral(right);
  if (is_integral(left)) return order_mixed(integral(left), *right.get<double>());
  if (is_integral(right)) return 0 <=> order_mixed(integral(right), *left.get<double>());
  return *left.get<double>() <=> *right.get<double>();
}

// Lists equal lists, tuples tuples; views of a mapping compare as sets do, which no template needs.
int kind_of_equality(const Sequence& sequence) {
  switch (sequence.kind) {
    case SequenceKind::kList: return 0;
    case SequenceKind::kTuple: return 1;
    case SequenceKind::kRange: return 2;
    default: refuse("comparing the views of a mapping");
  }
}

bool equal_items(Budget& budget, const std::vector<Value>& left, const std::vector<Value>& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [&](const Value& a, const Value& b) { return equal(budget, a, b); });
}

bool equal_dicts(Budget& budget, const Dict& left, const Dict& right) {
  if (left.items.size() != right.items.size()) return false;
  return std::all_of(left.items.begin(), left.items.end(), [&](const auto& item) {
    const Value* other = find(right, item.first);
    return other != nullptr && equal(budget, item.second, *other);
  });
}

}  // namespace

bool equal(Budget& budget, const Value& left, const Value& right) {
  budget.work(sizeof(Value));
  if (is_number(left) && is_number(right)) return order_numbers(left, right) == std::partial_ordering::equivalent;
  if (left.data.index() != right.data.index()) return false;
  if (left.text()) {
    if (left.text()->bytes.size() != right.text()->bytes.size()) return false;
    budget.work(left.text()->bytes.size());
    return left.text()->bytes == right.text()->bytes;
  }
  if (left.sequence()) {
    if (left.sequence() == right.sequence()) return true;
    return kind_of_equality(*left.sequence()) == kind_of_equality(*right.sequence()) &&
           equal_items(budget, left.sequence()->items, right.sequence()->items);
  }
  if (left.dict()) return equal_dicts(budget, *left.dict(), *right.dict());
  if (is_undefined(left) || left.is<None>()) return true;
  if (left.callable()) return left.callable() == right.callable();
  if (left.iterator()) return left.iterator() == right.iterator();
  if (left.name_space()) return left.name_space() == right.name_space();
  return left.loop() == right.loop();
}

std::partial_ordering order(Budget& budget, const Value& left, const Value& right) {
  for (const Value* side : {&left, &right}) {
    if (is_undefined(*side)) fail(reason_of(*side));
  }
  if (is_number(left) && is_number(right)) return order_numbers(left, right);
  if (left.text() && right.text()) {
    budget.work(std::min(left.text()->bytes.size(), right.text()->bytes.size()) + sizeof(Value));
    return left.text()->bytes <=> right.text()->bytes;
  }
  if ((is_list(left) && is_list(right)) || (is_tuple(left) && is_tuple(right))) {
    const std::vector<Value>&a = left.sequence()->items, &b = right.sequence()->items;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (!equal(budget, a[i], b[i])) return order(budget, a[i], b[i]);
    }
    return a.size() <=> b.size();
  }
  fail(fmt::format("values of the types {} and {} have no order", type_name(left), type_name(right)));
}

bool less(Budget& budget, const Value& left, const Value& right) { return order(budget, left, right) < 0; }

bool contains(Budget& budget, const Value& container, const Value& item) {
  if (const TrackedText* text = container.text()) {
    if (is_undefined(item) || !item.text()) fail(fmt::format("'in <string>' needs a string, found {}", type_name(item)));
    budget.work(text->bytes.size() + item.text()->bytes.size());
    return find_bytes(text->bytes, item.text()->bytes) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) return find(*dict, item) != nullptr;
  if (const Sequence* sequence = container.sequence()) {
    return std::any_of(sequence->items.begin(), sequence->items.end(),
                       [&](const Value& other) { return equal(budget, other, item); });
  }
  for (const Value& other : elements(budget, container)) {
    if (equal(budget, other, item)) return true;
  }
  return false;
}

std::string key_code(const Value& key) {
  if (key.text()) return kTextKeyCode + key.text()->bytes;
  if (key.is<None>()) return "n";
  if (is_integral(key)) return fmt::format("i{}", integral(key));
  if (const auto* number = key.get<double>()) {
    const bool whole = std::trunc(*number) == *number && *number >= -0x1p63 && *number < 0x1p63;
    return whole ? fmt::format("i{}", static_cast<int64_t>(*number)) : fmt::format("f{}", *number);
  }
  if (is_tuple(key)) {
    const std::vector<Value>& items = key.sequence()->items;
    if (items.size() > kKeyTupleLimit || key.sequence()->depth > 1) refuse("a long or nested tuple as a key of a mapping");
    std::string code = "(";
    for (const Value& item : items) {
      const std::string part = key_code(item);
      code += fmt::format("{}:{}", part.size(), part);
    }
    return code;
  }
  if (key.sequence() || key.dict()) fail(fmt::format("a value of type {} cannot be a key of a mapping", type_name(key)));
  refuse(fmt::format("a value of type {} as a key of a mapping", type_name(key)));
}

}  // namespace tritllm::jinja
