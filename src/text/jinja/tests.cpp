// Owns the tests: what may follow `is`.
#include <fmt/format.h>

#include <cstdint>
#include <unordered_map>

#include "text/jinja/builtins.h"
#include "text/jinja/formatting.h"
#include "text/jinja/limits.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"
#include "text/jinja/value.h"

namespace tritllm::jinja {
namespace {

using Predicate = bool (*)(Budget&, const Value&, const BoundArguments&);

bool is_none(Budget&, const Value& value, const BoundArguments&) { return value.is<None>(); }
bool is_defined(Budget&, const Value& value, const BoundArguments&) { return !is_undefined(value); }
bool is_not_defined(Budget&, const Value& value, const BoundArguments&) { return is_undefined(value); }
bool is_string(Budget&, const Value& value, const BoundArguments&) { return value.text() != nullptr; }
bool is_boolean(Budget&, const Value& value, const BoundArguments&) { return value.is<bool>(); }
bool is_integer(Budget&, const Value& value, const BoundArguments&) { return value.is<int64_t>(); }
bool is_float(Budget&, const Value& value, const BoundArguments&) { return value.is<double>(); }
bool is_number(Budget&, const Value& value, const BoundArguments&) { return is_integral(value) || value.is<double>(); }
bool is_mapping(Budget&, const Value& value, const BoundArguments&) { return value.dict() != nullptr; }
bool is_iterable_value(Budget&, const Value& value, const BoundArguments&) { return is_iterable(value); }

bool is_true(Budget&, const Value& value, const BoundArguments&) {
  const auto* flag = value.get<bool>();
  return flag && *flag;
}

bool is_false(Budget&, const Value& value, const BoundArguments&) {
  const auto* flag = value.get<bool>();
  return flag && !*flag;
}

bool is_sequence(Budget&, const Value& value, const BoundArguments&) {
  if (is_undefined(value) || value.text() || value.dict()) return true;
  if (!value.sequence()) return false;
  const SequenceKind kind = value.sequence()->kind;
  return kind != SequenceKind::kDictKeys && kind != SequenceKind::kDictValues && kind != SequenceKind::kDictItems;
}

bool is_callable(Budget&, const Value& value, const BoundArguments&) {
  return is_undefined(value) || value.callable() || value.loop();
}

bool is_lower(Budget& budget, const Value& value, const BoundArguments&) {
  return all_cased_are(budget, printed(budget, value), false);
}

bool is_upper(Budget& budget, const Value& value, const BoundArguments&) {
  return all_cased_are(budget, printed(budget, value), true);
}

bool rest_is(Budget& budget, const Value& value, int64_t divisor, int64_t rest) {
  return equal(budget, modulo(budget, value, integer(divisor)), integer(rest));
}

bool is_odd(Budget& budget, const Value& value, const BoundArguments&) { return rest_is(budget, value, 2, 1); }
bool is_even(Budget& budget, const Value& value, const BoundArguments&) { return rest_is(budget, value, 2, 0); }

bool is_divisible(Budget& budget, const Value& value, const BoundArguments& arguments) {
  return equal(budget, modulo(budget, value, arguments.at(0)), integer(0));
}

// Identity: one object for none, true and false; for the rest only where Python must agree.
bool is_same(Budget& budget, const Value& value, const BoundArguments& arguments) {
  const Value& other = arguments.at(0);
  if (value.data.index() != other.data.index()) return false;
  if (value.is<bool>() || value.is<None>()) return equal(budget, value, other);
  if (value.name_space()) return value.name_space() == other.name_space();
  refuse("'sameas' for anything but none, true, false and namespaces");
}

bool is_in(Budget& budget, const Value& value, const BoundArguments& arguments) { return contains(budget, arguments.at(0), value); }
bool is_equal(Budget& budget, const Value& value, const BoundArguments& arguments) { return equal(budget, value, arguments.at(0)); }
bool is_unequal(Budget& budget, const Value& value, const BoundArguments& arguments) {
  return !equal(budget, value, arguments.at(0));
}
bool is_less(Budget& budget, const Value& value, const BoundArguments& arguments) {
  return order(budget, value, arguments.at(0)) < 0;
}
bool is_at_most(Budget& budget, const Value& value, const BoundArguments& arguments) {
  return order(budget, value, arguments.at(0)) <= 0;
}
bool is_greater(Budget& budget, const Value& value, const BoundArguments& arguments) {
  return order(budget, value, arguments.at(0)) > 0;
}
bool is_at_least(Budget& budget, const Value& value, const BoundArguments& arguments) {
  return order(budget, value, arguments.at(0)) >= 0;
}

struct Test {
  Predicate predicate;
  bool takes_argument;
};

const std::unordered_map<std::string_view, Test>& tests() {
  static const std::unordered_map<std::string_view, Test> table = {{"none", {is_none, false}},
                                                                   {"defined", {is_defined, false}},
                                                                   {"undefined", {is_not_defined, false}},
                                                                   {"string", {is_string, false}},
                                                                   {"boolean", {is_boolean, false}},
                                                                   {"integer", {is_integer, false}},
                                                                   {"float", {is_float, false}},
                                                                   {"number", {is_number, false}},
                                                                   {"mapping", {is_mapping, false}},
                                                                   {"iterable", {is_iterable_value, false}},
                                                                   {"true", {is_true, false}},
                                                                   {"false", {is_false, false}},
                                                                   {"sequence", {is_sequence, false}},
                                                                   {"callable", {is_callable, false}},
                                                                   {"lower", {is_lower, false}},
                                                                   {"upper", {is_upper, false}},
                                                                   {"odd", {is_odd, false}},
                                                                   {"even", {is_even, false}},
                                                                   {"divisibleby", {is_divisible, true}},
                                                                   {"sameas", {is_same, true}},
                                                                   {"in", {is_in, true}},
                                                                   {"eq", {is_equal, true}},
                                                                   {"equalto", {is_equal, true}},
                                                                   {"==", {is_equal, true}},
                                                                   {"ne", {is_unequal, true}},
                                                                   {"!=", {is_unequal, true}},
                                                                   {"lt", {is_less, true}},
                                                                   {"lessthan", {is_less, true}},
                                                                   {"<", {is_less, true}},
                                                                   {"le", {is_at_most, true}},
                                                                   {"<=", {is_at_most, true}},
                                                                   {"gt", {is_greater, true}},
                                                                   {"greaterthan", {is_greater, true}},
                                                                   {">", {is_greater, true}},
                                                                   {"ge", {is_at_least, true}},
                                                                   {">=", {is_at_least, true}}};
  return table;
}

}  // namespace

bool apply_test(Budget& budget, std::string_view name, const Value& input, const Arguments& arguments) {
  const auto found = tests().find(name);
  if (found == tests().end()) refuse(fmt::format("the test '{}'", name));
  const auto& [predicate, takes_argument] = found->second;
  if (takes_argument) return predicate(budget, input, BoundArguments(name, arguments, {"other"}, 1));
  return predicate(budget, input, BoundArguments(name, arguments, {}));
}

}  // namespace tritllm::jinja
