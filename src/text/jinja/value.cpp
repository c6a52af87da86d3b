#include "text/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/limits.h"
#include "text/jinja/operators.h"
#include "text/unicode.h"

namespace tritllm::jinja {
namespace {

// From this many items on, look-ups use the index.
constexpr size_t kIndexedItems = 9;

int checked_depth(int deepest_item) {
  if (deepest_item >= kValueDepth) fail(fmt::format("lists and mappings nest deeper than the limit of {} levels", kValueDepth));
  return deepest_item + 1;
}

int deepest(const std::vector<Value>& items) noexcept {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, depth_of(item));
  return depth;
}

}  // namespace

Value undefined(std::string reason) { return {Undefined{std::make_shared<const std::string>(std::move(reason))}}; }

Value text_value(TrackedText text) { return {std::make_shared<const TrackedText>(std::move(text))}; }

Value template_value(std::string bytes) { return text_value(template_text(std::move(bytes))); }

Value boolean(bool value) { return {value}; }

Value integer(int64_t value) { return {value}; }

Value real(double value) { return {value}; }

Value none() { return {None{}}; }

Value sequence_value(SequenceKind kind, std::vector<Value> items) {
  const int depth = checked_depth(deepest(items));
  return {std::make_shared<const Sequence>(Sequence{kind, std::move(items), depth})};
}

Value list_value(std::vector<Value> items) { return sequence_value(SequenceKind::kList, std::move(items)); }

Value tuple_value(std::vector<Value> items) { return sequence_value(SequenceKind::kTuple, std::move(items)); }

Value range_value(int64_t start, int64_t step, int64_t count, int64_t stop) {
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) items.push_back(integer(start + i * step));
  return {std::make_shared<const Sequence>(Sequence{SequenceKind::kRange, std::move(items), 1, start, stop, step})};
}

Value iterator_value(std::vector<Value> items) {
  const int depth = checked_depth(deepest(items));
  return {std::make_shared<Iterator>(Iterator{std::move(items), 0, depth})};
}

Value native_value(std::string name, NativeFunction function, int depth) {
  return {std::make_shared<const Callable>(Callable{std::move(name), std::move(function), checked_depth(depth)})};
}

Value dict_value(std::vector<std::pair<Value, Value>> items) {
  Dict dict;
  int depth = 0;
  dict.index.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    dict.index.emplace_back(key_code(items[i].first), i);
    depth = std::max({depth, depth_of(items[i].first), depth_of(items[i].second)});
  }
  dict.depth = checked_depth(depth);
  std::sort(dict.index.begin(), dict.index.end());
  const auto same_key = [](const auto& a, const auto& b) { return a.first == b.first; };
  if (std::adjacent_find(dict.index.begin(), dict.index.end(), same_key) != dict.index.end()) {
    std::vector<bool> superseded(items.size());
    for (size_t first = 0, i = 1; i <= dict.index.size(); ++i) {
      if (i < dict.index.size() && dict.index[i].first == dict.index[first].first) {
        items[dict.index[first].second].second = items[dict.index[i].second].second;
        superseded[dict.index[i].second] = true;
      } else {
        first = i;
      }
    }
    std::vector<std::pair<Value, Value>> kept;
    for (size_t i = 0; i < items.size(); ++i) {
      if (!superseded[i]) kept.push_back(std::move(items[i]));
    }
    return dict_value(std::move(kept));
  }
  if (items.size() < kIndexedItems) dict.index.clear();
  dict.items = std::move(items);
  return {std::make_shared<const Dict>(std::move(dict))};
}

const Value* find(const Dict& dict, const Value& key) {
  if (key.text()) return find(dict, std::string_view(key.text()->bytes));
  const std::string code = key_code(key);
  if (dict.index.empty()) {
    const auto found =
        std::find_if(dict.items.begin(), dict.items.end(), [&](const auto& item) { return key_code(item.first) == code; });
    return found == dict.items.end() ? nullptr : &found->second;
  }
  const auto found = std::lower_bound(dict.index.begin(), dict.index.end(), std::pair(code, size_t{0}));
  return found == dict.index.end() || found->first != code ? nullptr : &dict.items[found->second].second;
}

const Value* find(const Dict& dict, std::string_view key) noexcept {
  const auto is_key = [&](const Value& candidate) { return candidate.text() != nullptr && candidate.text()->bytes == key; };
  if (dict.index.empty()) {
    const auto found = std::find_if(dict.items.begin(), dict.items.end(), [&](const auto& item) { return is_key(item.first); });
    return found == dict.items.end() ? nullptr : &found->second;
  }
  const auto before = [](const auto& entry, std::string_view wanted) {
    const std::string_view code = entry.first;
    return code.front() != kTextKeyCode ? code.front() < kTextKeyCode : code.substr(1) < wanted;
  };
  const auto found = std::lower_bound(dict.index.begin(), dict.index.end(), key, before);
  if (found == dict.index.end() || !is_key(dict.items[found->second].first)) return nullptr;
  return &dict.items[found->second].second;
}

bool truthy(const Value& value) {
  if (is_undefined(value) || value.is<None>()) return false;
  if (is_integral(value)) return integral(value) != 0;
  if (const auto* number = value.get<double>()) return *number != 0;
  if (value.text()) return !value.text()->bytes.empty();
  if (value.sequence()) return !value.sequence()->items.empty();
  if (value.dict()) return !value.dict()->items.empty();
  return true;
}

int depth_of(const Value& value) noexcept {
  if (value.sequence()) return value.sequence()->depth;
  if (value.dict()) return value.dict()->depth;
  if (value.iterator()) return value.iterator()->depth;
  if (value.callable()) return value.callable()->depth;
  if (value.loop()) return value.loop()->depth;
  return 0;
}

std::string_view type_name(const Value& value) noexcept {
  if (value.sequence()) {
    switch (value.sequence()->kind) {
      case SequenceKind::kList: return "list";
      case SequenceKind::kTuple: return "tuple";
      case SequenceKind::kRange: return "range";
      case SequenceKind::kDictKeys: return "dict_keys";
      case SequenceKind::kDictValues: return "dict_values";
      case SequenceKind::kDictItems: return "dict_items";
    }
  }
  if (is_undefined(value)) return "undefined";
  if (value.is<None>()) return "none";
  if (value.is<bool>()) return "bool";
  if (value.is<int64_t>()) return "int";
  if (value.is<double>()) return "float";
  if (value.text()) return "str";
  if (value.dict()) return "dict";
  if (value.iterator()) return "generator";
  if (value.name_space()) return "namespace";
  if (value.loop()) return "loop";
  return "function";
}

bool is_list(const Value& value) noexcept { return value.sequence() && value.sequence()->kind == SequenceKind::kList; }

bool is_tuple(const Value& value) noexcept { return value.sequence() && value.sequence()->kind == SequenceKind::kTuple; }

std::string reason_of(const Value& undefined_value) {
  const auto* missing = undefined_value.get<Undefined>();
  return missing && missing->reason ? *missing->reason : "an undefined value is used";
}

bool is_integral(const Value& value) noexcept { return value.is<int64_t>() || value.is<bool>(); }

int64_t integral(const Value& value) noexcept {
  if (const auto* flag = value.get<bool>()) return *flag ? 1 : 0;
  const auto* number = value.get<int64_t>();
  return number ? *number : 0;
}

namespace {

std::vector<Value> letters(const TrackedText& text) {
  std::vector<Value> result;
  for (size_t at = 0; at < text.bytes.size();) {
    const size_t begin = at;
    next_code_point(text.bytes, at);
    TrackedText letter = slice(text, begin, at);
    letter.markup = false;  // as iterating over markup gives plain texts
    result.push_back(text_value(std::move(letter)));
  }
  return result;
}

}  // namespace

std::vector<Value> elements(Budget& budget, const Value& value) {
  if (is_undefined(value)) return {};
  std::vector<Value> result;
  if (value.text()) {
    budget.work(value.text()->bytes.size() * 2 * sizeof(TrackedText));
    return letters(*value.text());
  }
  if (value.sequence()) {
    result = value.sequence()->items;
  } else if (value.dict()) {
    for (const auto& item : value.dict()->items) result.push_back(item.first);
  } else if (Iterator* iterator = value.iterator()) {
    result.assign(iterator->items.begin() + static_cast<std::ptrdiff_t>(iterator->next), iterator->items.end());
    iterator->next = iterator->items.size();
  } else if (value.loop()) {
    refuse("iterating over a loop variable");
  } else {
    fail(fmt::format("a value of type {} cannot be iterated over", type_name(value)));
  }
  budget.work(result.size() * sizeof(Value));
  return result;
}

bool is_iterable(const Value& value) noexcept {
  return is_undefined(value) || value.text() || value.sequence() || value.dict() || value.iterator() || value.loop();
}

BoundArguments::BoundArguments(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> names,
                               size_t required)
    : function_(function), names_(names), values_(names.size()) {
  if (arguments.positional.size() > names.size()) {
    fail(fmt::format("{} takes at most {} arguments, found {}", function, names.size(), arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.keywords) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) fail(fmt::format("{} has no argument named '{}'", function, name));
    const Value*& slot = values_[static_cast<size_t>(found - names_.begin())];
    if (slot != nullptr) fail(fmt::format("{} got the argument '{}' twice", function, name));
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) fail(fmt::format("{} lacks its argument '{}'", function, names_[i]));
  }
}

int64_t BoundArguments::integer(size_t index, int64_t fallback) const {
  if (values_[index] == nullptr) return fallback;
  if (!is_integral(*values_[index])) wrong_type(index, "a whole number");
  return integral(*values_[index]);
}

std::optional<int64_t> BoundArguments::optional_integer(size_t index) const {
  if (!has(index)) return std::nullopt;
  return integer(index, 0);
}

const TrackedText& BoundArguments::text(size_t index) const {
  if (!values_[index]->text()) wrong_type(index, "a string");
  return *values_[index]->text();
}

void BoundArguments::wrong_type(size_t index, std::string_view expected) const {
  fail(fmt::format("the argument '{}' of {} must be {}, found {}", names_[index], function_, expected, type_name(*values_[index])));
}

}  // namespace tritllm::jinja
