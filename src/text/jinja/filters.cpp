// Owns the filters.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <unordered_map>

#include "text/jinja/builtins.h"
#include "text/jinja/formatting.h"
#include "text/jinja/limits.h"
#include "text/jinja/lookup.h"
#include "text/jinja/numbers.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"
#include "text/jinja/value.h"
#include "text/unicode.h"

namespace tritllm::jinja {
namespace {

// Some filters give a plain text even of markup.
TrackedText plain(TrackedText text) {
  text.markup = false;
  return text;
}

Value trim(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("trim", arguments, {"chars"});
  return text_value(stripped(budget, printed(budget, input), bound.has(0) ? &bound.text(0) : nullptr, true, true));
}

template <LetterCase kCase>
Value change_case(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("a change of case", arguments, {});
  const TrackedText changed = with_case(budget, printed(budget, input), kCase);
  return text_value(kCase == LetterCase::kTitleOfFilter ? plain(changed) : changed);
}

Value string(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("string", arguments, {});
  return input.text() ? input : text_value(printed(budget, input));
}

Value safe(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("safe", arguments, {});
  TrackedText text = printed(budget, input);
  budget.work(text.bytes.size());
  text.markup = true;
  return text_value(std::move(text));
}

Value escape(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("escape", arguments, {});
  return text_value(escaped(budget, printed(budget, input)));
}

Value replace(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"}, 2);
  return text_value(replaced(budget, plain(printed(budget, input)), printed(budget, bound.at(0)), printed(budget, bound.at(1)),
                             bound.has(2) ? bound.integer(2, -1) : -1));
}

Value join(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"d", "attribute"});
  std::vector<Value> items = elements(budget, input);
  if (bound.has(1)) {
    for (Value& item : items) item = path_of(budget, item, bound.at(1));
  }
  return text_value(joined(budget, bound.get(0) ? plain(printed(budget, *bound.get(0))) : TrackedText{}, items, false));
}

Value indent(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("indent", arguments, {"width", "first", "blank"});
  if (!input.text()) fail(fmt::format("indent needs a string, found {}", type_name(input)));
  TrackedText indentation;
  if (bound.get(0) && bound.get(0)->text()) indentation = *bound.get(0)->text();
  else indentation = repeated(budget, template_text(" "), bound.integer(0, 4));
  if (indentation.markup && !input.text()->markup) refuse("indent by a text marked as safe");
  const bool first = bound.boolean(1, false), blank = bound.boolean(2, false);
  TrackedText text = *input.text();
  append(text, "\n");  // so that a line end at the very end counts as a line of its own
  TrackedText result;
  bool first_line = true;
  for (const TrackedText& line : lines_of(budget, text, false)) {
    budget.work((indentation.bytes.size() + line.bytes.size()) * 2);
    if (!first_line) append(result, "\n");
    if (first_line ? first : blank || !line.bytes.empty()) append(result, indentation);
    append(result, line);
    first_line = false;
  }
  result.markup = input.text()->markup;
  return text_value(std::move(result));
}

Value truncate(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  if (!input.text()) fail(fmt::format("truncate needs a string, found {}", type_name(input)));
  const TrackedText& text = *input.text();
  budget.work(text.bytes.size() * 2);
  const TrackedText end = bound.get(2) ? bound.text(2) : template_text("...");
  const int64_t length = bound.integer(0, 255), leeway = bound.has(3) ? bound.integer(3, 0) : 5;
  const auto end_letters = static_cast<int64_t>(count_code_points(end.bytes));
  if (length < end_letters || leeway < 0) fail("truncate is asked for less than the length of its ending");
  const auto letters = static_cast<int64_t>(count_code_points(text.bytes));
  if (letters <= length || letters - length <= leeway) return input;
  size_t cut = byte_of_code_point(text.bytes, static_cast<size_t>(length - end_letters));
  if (!bound.boolean(1, false)) {
    const size_t space = cut == 0 ? std::string::npos : text.bytes.rfind(' ', cut - 1);
    if (space != std::string::npos) cut = space;
  }
  return add(budget, text_value(slice(text, 0, cut)), text_value(end));
}

Value format(Budget& budget, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.keywords.empty()) fail("format takes values by position or by name, not both");
  const TrackedText pattern = printed(budget, input);
  if (arguments.keywords.empty()) return text_value(percent_formatted(budget, pattern, tuple_value(arguments.positional)));
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [name, value] : arguments.keywords) items.emplace_back(template_value(name), value);
  return text_value(percent_formatted(budget, pattern, dict_value(std::move(items))));
}

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

Value length(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("length", arguments, {});
  if (is_undefined(input)) return integer(0);
  if (const TrackedText* text = input.text()) {
    budget.work(text->bytes.size());
    return integer(static_cast<int64_t>(count_code_points(text->bytes)));
  }
  if (input.sequence()) return integer(static_cast<int64_t>(input.sequence()->items.size()));
  if (input.dict()) return integer(static_cast<int64_t>(input.dict()->items.size()));
  fail(fmt::format("a value of type {} has no length", type_name(input)));
}

Value default_filter(Budget&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("default", arguments, {"default_value", "boolean"});
  const bool missing = is_undefined(input) || (bound.boolean(1, false) && !truthy(input));
  if (!missing) return input;
  return bound.get(0) ? *bound.get(0) : template_value("");
}

Value first(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("first", arguments, {});
  if (Iterator* iterator = input.iterator()) {
    if (iterator->next < iterator->items.size()) return iterator->items[iterator->next++];
    return undefined("an empty sequence has no first element");
  }
  if (input.sequence() && !input.sequence()->items.empty()) return input.sequence()->items.front();
  if (input.text() && !input.text()->bytes.empty()) return text_value(plain(*element_of(budget, input, integer(0)).text()));
  const std::vector<Value> items = elements(budget, input);
  return items.empty() ? undefined("an empty sequence has no first element") : items.front();
}

Value last(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("last", arguments, {});
  if (input.iterator()) fail(fmt::format("last does not work on a value of type {}", type_name(input)));
  if (input.sequence() && !input.sequence()->items.empty()) return input.sequence()->items.back();
  if (input.text() && !input.text()->bytes.empty()) return element_of(budget, input, integer(-1));
  const std::vector<Value> items = elements(budget, input);
  return items.empty() ? undefined("an empty sequence has no last element") : items.back();
}

Value list(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("list", arguments, {});
  return list_value(elements(budget, input));
}

Value items(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("items", arguments, {});
  if (is_undefined(input)) return iterator_value({});
  if (!input.dict()) fail(fmt::format("items needs a mapping, found {}", type_name(input)));
  budget.work(input.dict()->items.size() * 3 * sizeof(Value));
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.dict()->items) pairs.push_back(tuple_value({key, value}));
  return iterator_value(std::move(pairs));
}

Value reverse(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("reverse", arguments, {});
  if (input.text()) return slice_of(budget, input, none(), none(), integer(-1));
  std::vector<Value> all = elements(budget, input);
  std::reverse(all.begin(), all.end());
  // Of a generator Jinja makes a list, of all else an iterator.
  return input.iterator() || is_undefined(input) ? list_value(std::move(all)) : iterator_value(std::move(all));
}

// What sorting, grouping and the like compare: an attribute, texts in lower case unless case counts.
Value comparison_key(Budget& budget, const Value& item, const Value* attribute, bool case_sensitive) {
  Value key = attribute ? path_of(budget, item, *attribute) : item;
  if (!case_sensitive && key.text()) return text_value(with_case(budget, *key.text(), LetterCase::kLower));
  return key;
}

// `a,b` sorts by several attributes: the keys are lists then.
std::vector<Value> attributes_of(Budget& budget, const Value* attribute) {
  if (attribute == nullptr || !attribute->text() || attribute->text()->bytes.find(',') == std::string::npos) return {};
  std::vector<Value> parts;
  const std::string& text = attribute->text()->bytes;
  budget.work(text.size() * sizeof(Value));
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    parts.push_back(template_value(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return parts;
}

using Keyed = std::vector<std::pair<Value, Value>>;  // (key, element)

// std::sort's helpers may leave their range where an order is inconsistent (NaN); merge sort does not.
void sort_keyed(Budget& budget, Keyed& keyed, bool descending) {
  budget.steps(keyed.size());
  if (descending) std::reverse(keyed.begin(), keyed.end());  // keeps equal elements in their order
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) { return less(budget, a.first, b.first); });
  if (descending) std::reverse(keyed.begin(), keyed.end());
}

Value elements_of(Keyed keyed) {
  std::vector<Value> result;
  for (auto& entry : keyed) result.push_back(std::move(entry.second));
  return list_value(std::move(result));
}

Value sort(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = bound.boolean(1, false);
  const Value* attribute = bound.has(2) ? bound.get(2) : nullptr;
  const std::vector<Value> attributes = attributes_of(budget, attribute);
  Keyed keyed;
  for (Value& item : elements(budget, input)) {
    std::vector<Value> keys;
    for (const Value& part : attributes) keys.push_back(comparison_key(budget, item, &part, case_sensitive));
    if (attributes.empty()) keys.push_back(comparison_key(budget, item, attribute, case_sensitive));
    // Lists, as in Jinja: equal keys need no order between them, so that lists of None or of one mapping can be sorted.
    Value key = list_value(std::move(keys));
    keyed.emplace_back(std::move(key), std::move(item));
  }
  sort_keyed(budget, keyed, bound.boolean(0, false));
  return elements_of(std::move(keyed));
}

Value dictsort(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.get(1) ? bound.text(1).bytes : "key";
  if (by != "key" && by != "value") fail("dictsort sorts by 'key' or by 'value'");
  if (is_undefined(input)) fail(reason_of(input));
  if (!input.dict()) fail(fmt::format("dictsort needs a mapping, found {}", type_name(input)));
  Keyed keyed;
  for (const auto& [key, value] : input.dict()->items) {
    keyed.emplace_back(comparison_key(budget, by == "key" ? key : value, nullptr, bound.boolean(0, false)),
                       tuple_value({key, value}));
  }
  budget.work(keyed.size() * 4 * sizeof(Value));
  sort_keyed(budget, keyed, bound.boolean(2, false));
  return elements_of(std::move(keyed));
}

Value unique(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("unique", arguments, {"case_sensitive", "attribute"});
  std::set<std::string> seen;
  std::vector<Value> result;
  for (Value& item : elements(budget, input)) {
    budget.step();
    const Value key = comparison_key(budget, item, bound.has(1) ? bound.get(1) : nullptr, bound.boolean(0, false));
    if (key.text()) budget.work(key.text()->bytes.size() * 2);
    if (seen.insert(key_code(key)).second) result.push_back(std::move(item));
  }
  return iterator_value(std::move(result));
}

Value sum(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("sum", arguments, {"attribute", "start"});
  Value total = bound.get(1) ? *bound.get(1) : integer(0);
  for (const Value& item : elements(budget, input)) {
    budget.step();
    total = add(budget, total, bound.has(0) ? path_of(budget, item, bound.at(0)) : item);
  }
  return total;
}

template <bool kLargest>
Value extreme(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(kLargest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const std::vector<Value> all = elements(budget, input);
  if (all.empty()) return undefined("an empty sequence has no extreme element");
  const Value* best = nullptr;
  Value best_key;
  for (const Value& item : all) {
    budget.step();
    Value key = comparison_key(budget, item, bound.has(1) ? bound.get(1) : nullptr, bound.boolean(0, false));
    const bool better = best == nullptr || (kLargest ? less(budget, best_key, key) : less(budget, key, best_key));
    if (!better) continue;
    best = &item;
    best_key = std::move(key);
  }
  return *best;
}

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

Value attribute(Budget&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("attr", arguments, {"name"}, 1);
  if (is_undefined(input)) fail(reason_of(input));
  return own_attribute_of(input, bound.text(0).bytes);
}

using Filter = Value (*)(Budget&, const Value& input, const Arguments&);

const std::unordered_map<std::string_view, Filter>& filters() {
  static const std::unordered_map<std::string_view, Filter> table = {{"abs", abs_filter},
                                                                     {"attr", attribute},
                                                                     {"capitalize", change_case<LetterCase::kCapitalized>},
                                                                     {"count", length},
                                                                     {"d", default_filter},
                                                                     {"default", default_filter},
                                                                     {"dictsort", dictsort},
                                                                     {"e", escape},
                                                                     {"escape", escape},
                                                                     {"first", first},
                                                                     {"float", float_filter},
                                                                     {"format", format},
                                                                     {"indent", indent},
                                                                     {"int", int_filter},
                                                                     {"items", items},
                                                                     {"join", join},
                                                                     {"last", last},
                                                                     {"length", length},
                                                                     {"list", list},
                                                                     {"lower", change_case<LetterCase::kLower>},
                                                                     {"map", map},
                                                                     {"max", extreme<true>},
                                                                     {"min", extreme<false>},
                                                                     {"reject", select<false, false>},
                                                                     {"rejectattr", select<false, true>},
                                                                     {"replace", replace},
                                                                     {"reverse", reverse},
                                                                     {"safe", safe},
                                                                     {"select", select<true, false>},
                                                                     {"selectattr", select<true, true>},
                                                                     {"sort", sort},
                                                                     {"string", string},
                                                                     {"sum", sum},
                                                                     {"title", change_case<LetterCase::kTitleOfFilter>},
                                                                     {"tojson", to_json},
                                                                     {"trim", trim},
                                                                     {"truncate", truncate},
                                                                     {"unique", unique},
                                                                     {"upper", change_case<LetterCase::kUpper>}};
  return table;
}

}  // namespace

Value apply_filter(Budget& budget, std::string_view name, const Value& input, const Arguments& arguments) {
  const auto found = filters().find(name);
  if (found == filters().end()) refuse(fmt::format("the filter '{}'", name));
  budget.step();
  // map can apply map: the nesting is bounded like that of expressions.
  const Budget::Level level(budget);
  return found->second(budget, input, arguments);
}

}  // namespace tritllm::jinja
