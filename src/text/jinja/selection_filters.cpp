// The filters that apply a test, a filter or an attribute to every element: select, reject, map and their kin.
#include <fmt/format.h>

#include "text/jinja/arguments.h"
#include "text/jinja/failure.h"
#include "text/jinja/filters.h"
#include "text/jinja/lookup.h"
#include "text/jinja/predicates.h"

namespace tritllm::jinja {
namespace {

Arguments without_first(const Arguments& arguments, size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

const std::string& name_at(const Arguments& arguments, size_t index) {
  if (!arguments.positional[index].text()) fail("the name of a filter or test must be a string");
  return arguments.positional[index].text()->bytes;
}

template <bool kKeeps, bool kByAttribute>
Value select(Budget& budget, const Value& input, const Arguments& arguments) {
  constexpr size_t kTestIndex = kByAttribute ? 1 : 0;
  if (!truthy(input)) return iterator_value({});
  if (arguments.positional.size() < kTestIndex) fail("selectattr and rejectattr need the name of an attribute");
  const bool has_test = arguments.positional.size() > kTestIndex;
  const Arguments rest = has_test ? without_first(arguments, kTestIndex + 1) : Arguments{};
  std::vector<Value> kept;
  for (Value& item : elements(budget, input)) {
    budget.step();
    const Value tested = kByAttribute ? path_of(budget, item, arguments.positional[0]) : item;
    const bool passes = has_test ? apply_test(budget, name_at(arguments, kTestIndex), tested, rest) : truthy(tested);
    if (passes == kKeeps) kept.push_back(std::move(item));
  }
  return iterator_value(std::move(kept));
}

Value map_attribute(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("map", arguments, {"attribute", "default"});
  std::vector<Value> result = elements(budget, input);
  for (Value& item : result) {
    budget.step();
    item = path_of(budget, item, bound.at(0));
    if (is_undefined(item) && bound.has(1)) item = bound.at(1);
  }
  return iterator_value(std::move(result));
}

bool names_attribute(const Arguments& arguments) {
  if (!arguments.positional.empty()) return false;
  for (const auto& keyword : arguments.keywords) {
    if (keyword.first == "attribute") return true;
  }
  return false;
}

Value map(Budget& budget, const Value& input, const Arguments& arguments) {
  if (!truthy(input)) return iterator_value({});
  if (names_attribute(arguments)) return map_attribute(budget, input, arguments);
  if (arguments.positional.empty()) fail("map needs the name of a filter or an attribute");
  const Arguments rest = without_first(arguments, 1);
  std::vector<Value> result = elements(budget, input);
  for (Value& item : result) item = apply_filter(budget, name_at(arguments, 0), item, rest);
  return iterator_value(std::move(result));
}

Value attribute(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("attr", arguments, {"name"}, 1);
  if (is_undefined(input)) fail(reason_of(input));
  // Keys of a mapping are no attributes.
  if (input.dict() && find(*input.dict(), std::string_view(bound.text(0).bytes)) != nullptr) {
    const Value empty = dict_value({});
    return attribute_of(budget, empty, bound.text(0).bytes);
  }
  return attribute_of(budget, input, bound.text(0).bytes);
}

}  // namespace

std::vector<NamedFilter> selection_filters() {
  return {{"select", select<true, false>},
          {"reject", select<false, false>},
          {"selectattr", select<true, true>},
          {"rejectattr", select<false, true>},
          {"map", map},
          {"attr", attribute}};
}

}  // namespace tritllm::jinja
