// Owns the values that a template computes with: Python's, as far as templates meet them, and the arguments of a call. Values are
// immutable but for namespaces, loops and the position of an iterator. Does not own operations on them (operators, lookup,
// filters).
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/limits.h"
#include "text/jinja/text.h"

namespace tritllm::jinja {

struct Sequence;
struct Dict;
struct Iterator;
struct Namespace;
struct Callable;
struct Loop;
class Scope;
struct MacroDefinition;

// What a missing variable, key or attribute gives: empty when printed, an error when used. `reason` is the text of that error.
struct Undefined {
  std::shared_ptr<const std::string> reason;
};
struct None {};

struct Value {
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const TrackedText>, std::shared_ptr<const Sequence>,
               std::shared_ptr<const Dict>, std::shared_ptr<Iterator>, std::shared_ptr<Namespace>, std::shared_ptr<const Callable>,
               std::shared_ptr<Loop>>
      data;

  template <typename Alternative>
  bool is() const noexcept {
    return std::holds_alternative<Alternative>(data);
  }
  template <typename Alternative>
  const Alternative* get() const noexcept {
    return std::get_if<Alternative>(&data);
  }

  // The pointed-to value where this is one of these, else null.
  const TrackedText* text() const noexcept { return pointee<const TrackedText>(); }
  const Sequence* sequence() const noexcept { return pointee<const Sequence>(); }
  const Dict* dict() const noexcept { return pointee<const Dict>(); }
  Iterator* iterator() const noexcept { return pointee<Iterator>(); }
  Namespace* name_space() const noexcept { return pointee<Namespace>(); }
  const Callable* callable() const noexcept { return pointee<const Callable>(); }
  Loop* loop() const noexcept { return pointee<Loop>(); }

 private:
  template <typename Pointee>
  Pointee* pointee() const noexcept {
    const auto* held = std::get_if<std::shared_ptr<Pointee>>(&data);
    return held ? held->get() : nullptr;
  }
};

enum class SequenceKind { kList, kTuple, kRange, kDictKeys, kDictValues, kDictItems };

struct Sequence {
  SequenceKind kind;
  std::vector<Value> items;
  int depth;                              // 1 + the deepest item's
  int64_t start = 0, stop = 0, step = 1;  // of a range
};

// Keys in order of insertion. Look-up compares as Python does: 1, 1.0 and True are one key.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  std::vector<std::pair<std::string, size_t>> index;  // sorted (key_code, position); empty where there are few items
  int depth = 1;
};

// A generator of Python's, already computed: it can be walked through once and has neither length nor elements.
struct Iterator {
  std::vector<Value> items;
  size_t next = 0;
  int depth = 1;
};

struct Namespace {
  std::unordered_map<std::string, Value> attributes;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

// A macro with the scope that it was defined in.
struct MacroClosure {
  const MacroDefinition* definition;
  Scope* scope;
};

using NativeFunction = std::function<Value(Budget&, const Arguments&)>;

struct Callable {
  std::string name;
  std::variant<NativeFunction, MacroClosure> target;
  int depth = 1;
};

// The state of a for-loop as the variable `loop` shows it. `pull` gives the next element that passes the loop's condition; it is
// empty once the loop has ended.
struct Loop {
  std::function<bool(Value&)> pull;
  int64_t index0 = -1;
  size_t known_length = 0;  // of the elements that it runs over, where `has_length`
  bool has_length = false;
  std::vector<Value> ahead;  // pulled but not yet visited, the next one last
  Value previous, current;
  int depth = 1;
};

Value undefined(std::string reason);
Value text_value(TrackedText text);
Value template_value(std::string bytes);  // a text of the template's own
Value boolean(bool value);
Value integer(int64_t value);
Value real(double value);
Value none();

Value sequence_value(SequenceKind kind, std::vector<Value> items);
Value list_value(std::vector<Value> items);
Value tuple_value(std::vector<Value> items);
Value range_value(int64_t start, int64_t step, int64_t count, int64_t stop);
Value iterator_value(std::vector<Value> items);
Value native_value(std::string name, NativeFunction function, int depth = 1);

// Of equal keys the last value counts, in the place of the first.
Value dict_value(std::vector<std::pair<Value, Value>> items);
const Value* find(const Dict& dict, const Value& key);  // fails where the key is a list or a mapping
const Value* find(const Dict& dict, std::string_view key) noexcept;

bool truthy(const Value& value);
int depth_of(const Value& value) noexcept;
std::string_view type_name(const Value& value) noexcept;

inline bool is_undefined(const Value& value) noexcept { return value.is<Undefined>(); }
bool is_list(const Value& value) noexcept;
bool is_tuple(const Value& value) noexcept;

// The text of the error for using an undefined value.
std::string reason_of(const Value& undefined_value);

// Whole numbers and booleans as an integer.
bool is_integral(const Value& value) noexcept;
int64_t integral(const Value& value) noexcept;

// The elements that iterating gives: of texts the code points, of mappings the keys. Uses an iterator up. Fails where the value has
// none.
std::vector<Value> elements(Budget& budget, const Value& value);
bool is_iterable(const Value& value) noexcept;

class BoundArguments {
 public:
  // Fails where an argument is missing (the first `required` have no default), surplus, unknown or given twice.
  BoundArguments(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> names,
                 size_t required = 0);

  const Value* get(size_t index) const noexcept { return values_[index]; }  // null where not given
  const Value& at(size_t index) const noexcept { return *values_[index]; }  // of a required one

  // Given, and not None.
  bool has(size_t index) const noexcept { return values_[index] != nullptr && !values_[index]->is<None>(); }

  int64_t integer(size_t index, int64_t fallback) const;
  std::optional<int64_t> optional_integer(size_t index) const;  // nothing for None as well
  bool boolean(size_t index, bool fallback) const { return values_[index] ? truthy(*values_[index]) : fallback; }
  const TrackedText& text(size_t index) const;  // of a required one; fails if it is not a text

 private:
  [[noreturn]] void wrong_type(size_t index, std::string_view expected) const;

  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace tritllm::jinja
