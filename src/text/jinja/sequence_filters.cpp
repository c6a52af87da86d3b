// The filters on lists and mappings that need no condition: first, sort, unique, dictsort and their kin.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <set>

#include "text/jinja/arguments.h"
#include "text/jinja/arithmetic.h"
#include "text/jinja/compare.h"
#include "text/jinja/failure.h"
#include "text/jinja/filters.h"
#include "text/jinja/lookup.h"
#include "text/jinja/print.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"

namespace tritllm::jinja {
namespace {

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
  if (input.text() && !input.text()->bytes.empty()) return element_of(budget, input, integer(0));
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
    Value key = attributes.empty() ? comparison_key(budget, item, attribute, case_sensitive) : list_value(std::move(keys));
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

Value group_by(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = bound.boolean(2, false);
  const auto attribute = [&](const Value& item) {
    Value reached = path_of(budget, item, bound.at(0));
    return is_undefined(reached) && bound.has(1) ? *bound.get(1) : reached;
  };
  Keyed keyed;
  for (Value& item : elements(budget, input))
    keyed.emplace_back(comparison_key(budget, attribute(item), nullptr, case_sensitive), item);
  sort_keyed(budget, keyed, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < keyed.size();) {
    std::vector<Value> members;
    size_t end = begin;
    for (; end < keyed.size() && equal(budget, keyed[end].first, keyed[begin].first); ++end) members.push_back(keyed[end].second);
    if (end == begin) refuse("grouping by a value that is not equal to itself");
    groups.push_back(sequence_value(SequenceKind::kGroup, {attribute(keyed[begin].second), list_value(std::move(members))}));
    begin = end;
  }
  return list_value(std::move(groups));
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

Value batch(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("batch", arguments, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.integer(0, 1);
  std::vector<Value> rows, row;
  for (Value& item : elements(budget, input)) {
    if (static_cast<int64_t>(row.size()) == size) rows.push_back(list_value(std::exchange(row, {})));
    row.push_back(std::move(item));
  }
  if (!row.empty()) {
    for (auto present = static_cast<int64_t>(row.size()); bound.has(1) && present < size; ++present) {
      budget.step();
      row.push_back(*bound.get(1));
    }
    rows.push_back(list_value(std::move(row)));
  }
  return iterator_value(std::move(rows));
}

Value slice_filter(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("slice", arguments, {"slices", "fill_with"}, 1);
  const int64_t slices = bound.integer(0, 1);
  const std::vector<Value> all = elements(budget, input);
  if (slices == 0) fail("slice needs at least one slice");
  std::vector<Value> result;
  if (slices > 0) {
    const auto size = static_cast<int64_t>(all.size());
    const int64_t each = size / slices, longer = size % slices;
    auto next = all.begin();
    for (int64_t i = 0; i < slices; ++i) {
      budget.step();
      const auto end = next + each + (i < longer ? 1 : 0);
      std::vector<Value> part(next, end);
      next = end;
      if (bound.has(1) && i >= longer) part.push_back(*bound.get(1));
      result.push_back(list_value(std::move(part)));
    }
  }
  return iterator_value(std::move(result));
}

}  // namespace

std::vector<NamedFilter> sequence_filters() {
  return {{"length", length},     {"count", length},      {"default", default_filter},
          {"d", default_filter},  {"first", first},       {"last", last},
          {"list", list},         {"items", items},       {"reverse", reverse},
          {"sort", sort},         {"dictsort", dictsort}, {"unique", unique},
          {"groupby", group_by},  {"sum", sum},           {"min", extreme<false>},
          {"max", extreme<true>}, {"batch", batch},       {"slice", slice_filter}};
}

}  // namespace tritllm::jinja
