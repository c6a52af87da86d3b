#include "text/jinja/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/compare.h"
#include "text/jinja/failure.h"

namespace tritllm::jinja {
namespace {

using MethodTable = std::unordered_map<std::string_view, Method>;

Value dict_get(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("get", arguments, {"key", "default"}, 1);
  if (bound.at(0).text()) budget.work(bound.at(0).text()->bytes.size());
  if (const Value* found = find(*self.dict(), bound.at(0))) return *found;
  return bound.get(1) ? *bound.get(1) : none();
}

template <SequenceKind kView>
Value dict_view(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a view of a mapping", arguments, {});
  budget.work(self.dict()->items.size() * 2 * sizeof(Value));
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->items) {
    items.push_back(kView == SequenceKind::kDictKeys     ? key
                    : kView == SequenceKind::kDictValues ? value
                                                         : tuple_value({key, value}));
  }
  return sequence_value(kView, std::move(items));
}

Value copy(Budget&, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("copy", arguments, {});
  return self;  // nothing can change either of the two
}

Value sequence_index(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("index", arguments, {"value"}, 1);
  const std::vector<Value>& items = self.sequence()->items;
  const auto found = std::find_if(items.begin(), items.end(), [&](const Value& item) { return equal(budget, item, bound.at(0)); });
  if (found == items.end()) fail("index: the value is not in the list");
  return integer(found - items.begin());
}

Value sequence_count(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("count", arguments, {"value"}, 1);
  const std::vector<Value>& items = self.sequence()->items;
  return integer(std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(budget, item, bound.at(0)); }));
}

const MethodTable& text_methods() {
  static const MethodTable table = [] {
    MethodTable all;
    for (const auto& part : {cutting_methods(), case_methods(), search_methods()}) {
      for (const NamedMethod& entry : part) all.emplace(entry.name, entry.method);
    }
    return all;
  }();
  return table;
}

const MethodTable& dict_methods() {
  static const MethodTable table = {{"get", dict_get},
                                    {"keys", dict_view<SequenceKind::kDictKeys>},
                                    {"values", dict_view<SequenceKind::kDictValues>},
                                    {"items", dict_view<SequenceKind::kDictItems>},
                                    {"copy", copy}};
  return table;
}

const MethodTable& sequence_methods() {
  static const MethodTable table = {{"index", sequence_index}, {"count", sequence_count}};
  return table;
}

const MethodTable* methods_of(const Value& value) {
  if (value.text()) return &text_methods();
  if (value.dict()) return &dict_methods();
  if (is_list(value) || is_tuple(value) || (value.sequence() && value.sequence()->kind == SequenceKind::kRange)) {
    return &sequence_methods();
  }
  return nullptr;
}

bool is_one_of(std::initializer_list<std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool changes_its_object(const Value& value, std::string_view name) {
  if (value.dict()) return is_one_of({"clear", "pop", "popitem", "setdefault", "update"}, name);
  return is_list(value) && is_one_of({"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"}, name);
}

bool is_missing_here(const Value& value, std::string_view name) {
  if (value.text()) {
    return is_one_of({"casefold", "encode", "expandtabs", "format_map", "isidentifier", "isprintable", "istitle", "maketrans",
                      "swapcase", "translate", "zfill"},
                     name);
  }
  if (value.dict()) return name == "fromkeys";
  if (is_list(value)) return name == "copy";
  if (is_integral(value) || value.is<double>()) {
    return is_one_of({"real", "imag", "numerator", "denominator", "bit_length", "bit_count", "conjugate", "to_bytes", "from_bytes",
                      "as_integer_ratio", "is_integer", "hex", "fromhex"},
                     name);
  }
  if (value.iterator()) return is_one_of({"send", "throw", "close"}, name);
  if (value.sequence()) return is_one_of({"start", "stop", "step", "isdisjoint", "mapping"}, name);
  return false;
}

}  // namespace

bool find_method(const Value& self, std::string_view name, Value& found) {
  if (changes_its_object(self, name)) {
    found = undefined(fmt::format("the method '{}' would change a value of type {}; values are immutable", name, type_name(self)));
    return true;
  }
  const MethodTable* table = methods_of(self);
  const auto entry = table ? table->find(name) : MethodTable::const_iterator{};
  if (table == nullptr || entry == table->end()) {
    if (is_missing_here(self, name)) refuse(fmt::format("'{}' of a value of type {}", name, type_name(self)));
    return false;
  }
  const auto call = [self, method = entry->second](Budget& budget, const Arguments& arguments) {
    return method(budget, self, arguments);
  };
  found = native_value(std::string(name), call, depth_of(self));
  return true;
}

}  // namespace tritllm::jinja
