#include "text/jinja/lookup.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "text/jinja/builtins.h"
#include "text/jinja/limits.h"
#include "text/jinja/operators.h"
#include "text/unicode.h"

namespace tritllm::jinja {
namespace {

bool pull(Loop& loop, Value& element) { return loop.pull && loop.pull(element); }

const Value* peek(Loop& loop) {
  if (loop.ahead.empty()) {
    Value element;
    if (!pull(loop, element)) return nullptr;
    loop.ahead.push_back(std::move(element));
  }
  return &loop.ahead.back();
}

int64_t length(Loop& loop) {
  if (!loop.has_length) {
    std::vector<Value> rest;
    for (Value element; pull(loop, element);) rest.push_back(std::move(element));
    std::reverse(rest.begin(), rest.end());
    rest.insert(rest.end(), loop.ahead.begin(), loop.ahead.end());
    loop.ahead = std::move(rest);
    loop.known_length = static_cast<size_t>(loop.index0 + 1) + loop.ahead.size();
    loop.has_length = true;
  }
  return static_cast<int64_t>(loop.known_length);
}

Value cycle(Loop& loop, const Arguments& arguments) {
  if (!arguments.keywords.empty() || arguments.positional.empty()) fail("loop.cycle needs values to cycle through");
  return arguments.positional[static_cast<size_t>(loop.index0) % arguments.positional.size()];
}

}  // namespace

bool advance(Loop& loop, Value& element) {
  if (!loop.ahead.empty()) {
    element = std::move(loop.ahead.back());
    loop.ahead.pop_back();
  } else if (!pull(loop, element)) {
    return false;
  }
  ++loop.index0;
  loop.previous = std::move(loop.current);
  loop.current = element;
  return true;
}

bool find_loop_field(const Value& loop_value, std::string_view name, Value& found) {
  Loop& loop = *loop_value.loop();
  if (name == "index") found = integer(loop.index0 + 1);
  else if (name == "index0") found = integer(loop.index0);
  else if (name == "revindex") found = integer(length(loop) - loop.index0);
  else if (name == "revindex0") found = integer(length(loop) - loop.index0 - 1);
  else if (name == "first") found = boolean(loop.index0 == 0);
  else if (name == "last") found = boolean(peek(loop) == nullptr);
  else if (name == "length") found = integer(length(loop));
  else if (name == "depth") found = integer(1);
  else if (name == "depth0") found = integer(0);
  else if (name == "previtem") found = loop.index0 == 0 ? undefined("there is no previous element") : loop.previous;
  else if (name == "nextitem") found = peek(loop) ? *peek(loop) : undefined("there is no next element");
  else if (name == "changed") refuse("loop.changed");
  else if (name == "cycle") {
    const auto call = [loop_value](Budget&, const Arguments& arguments) { return cycle(*loop_value.loop(), arguments); };
    found = native_value("cycle", call, loop.depth);
  } else {
    return false;
  }
  return true;
}

namespace {

Value missing(const Value& object, std::string_view name) {
  return undefined(fmt::format("a value of type {} has no attribute or element '{}'", type_name(object), name));
}

bool is_internal(std::string_view name) noexcept { return name.substr(0, 2) == "__"; }

// An attribute in Python's sense; keys of mappings are none.
bool find_attribute(const Value& object, std::string_view name, Value& found) {
  if (is_internal(name)) return false;
  if (const Namespace* space = object.name_space()) {
    const auto field = space->attributes.find(std::string(name));
    if (field == space->attributes.end()) return false;
    found = field->second;
    return true;
  }
  if (object.loop()) return find_loop_field(object, name, found);
  if (object.callable() && std::holds_alternative<MacroClosure>(object.callable()->target)) {
    refuse(fmt::format("the attribute '{}' of a macro", name));
  }
  return find_method(object, name, found);
}

void require_defined(const Value& object) {
  if (is_undefined(object)) fail(reason_of(object));
}

// Element number `index`, counted from the end where negative.
const Value* item_at(const std::vector<Value>& items, int64_t index) noexcept {
  const auto size = static_cast<int64_t>(items.size());
  if (index < 0) index += size;
  return index < 0 || index >= size ? nullptr : &items[static_cast<size_t>(index)];
}

bool has_positions(const Sequence& sequence) noexcept {
  return sequence.kind == SequenceKind::kList || sequence.kind == SequenceKind::kTuple || sequence.kind == SequenceKind::kRange;
}

bool find_letter(Budget& budget, const TrackedText& text, int64_t index, Value& found) {
  budget.work(text.bytes.size());
  if (index < 0) index += static_cast<int64_t>(count_code_points(text.bytes));
  if (index < 0) return false;
  const size_t begin = byte_of_code_point(text.bytes, static_cast<size_t>(index));
  if (begin >= text.bytes.size()) return false;
  size_t end = begin;
  next_code_point(text.bytes, end);
  found = text_value(slice(text, begin, end));
  return true;
}

bool find_item(Budget& budget, const Value& object, const Value& index, Value& found) {
  if (const Dict* dict = object.dict()) {
    if (index.text()) budget.work(index.text()->bytes.size());
    if (index.sequence() && !is_tuple(index)) return false;
    if (index.dict() || is_undefined(index)) return false;
    const Value* item = find(*dict, index);
    if (item != nullptr) found = *item;
    return item != nullptr;
  }
  if (!is_integral(index)) return false;
  if (object.text()) return find_letter(budget, *object.text(), integral(index), found);
  if (object.sequence() && has_positions(*object.sequence())) {
    const Value* item = item_at(object.sequence()->items, integral(index));
    if (item != nullptr) found = *item;
    return item != nullptr;
  }
  return false;
}

// The positions that a slice takes, as Python's slice.indices: `count` of them from `first` on in steps of `step`.
struct Positions {
  int64_t first, step, count;
};

Positions positions_of(int64_t size, const Value& start, const Value& stop, const Value& step_value) {
  const auto bound = [](const Value& value) {
    if (!is_integral(value)) fail(fmt::format("a slice needs whole numbers, found {}", type_name(value)));
    return integral(value);
  };
  const int64_t step = step_value.is<None>() ? 1 : bound(step_value);
  if (step == 0) fail("a slice cannot have the step 0");
  const int64_t least = step < 0 ? -1 : 0, most = step < 0 ? size - 1 : size;
  const auto place = [&](const Value& value, int64_t fallback) {
    if (value.is<None>()) return fallback;
    const int64_t position = bound(value);
    return std::clamp(position < 0 ? (position < -size ? least : position + size) : position, least, most);
  };
  const int64_t first = place(start, step < 0 ? most : least), last = place(stop, step < 0 ? least : most);
  const int64_t distance = step < 0 ? first - last : last - first;
  if (distance <= 0) return {first, step, 0};
  // The step may be the most negative number, which has no counterpart.
  const uint64_t stride = step < 0 ? uint64_t{0} - static_cast<uint64_t>(step) : static_cast<uint64_t>(step);
  return {first, step, static_cast<int64_t>((static_cast<uint64_t>(distance) - 1) / stride + 1)};
}

Value slice_of_text(Budget& budget, const TrackedText& text, const Value& start, const Value& stop, const Value& step) {
  budget.work(text.bytes.size());
  const Positions positions = positions_of(static_cast<int64_t>(count_code_points(text.bytes)), start, stop, step);
  if (positions.count == 0) return text_value(slice(text, 0, 0));
  if (positions.step == 1) {
    const size_t begin = byte_of_code_point(text.bytes, static_cast<size_t>(positions.first));
    const std::string_view rest = std::string_view(text.bytes).substr(begin);
    return text_value(slice(text, begin, begin + byte_of_code_point(rest, static_cast<size_t>(positions.count))));
  }
  budget.work(text.bytes.size() * sizeof(size_t));
  std::vector<size_t> starts;
  for (size_t at = 0; at < text.bytes.size(); next_code_point(text.bytes, at)) starts.push_back(at);
  starts.push_back(text.bytes.size());
  TrackedText result;
  for (int64_t i = 0; i < positions.count; ++i) {
    const auto letter = static_cast<size_t>(positions.first + i * positions.step);
    append(result, text, starts[letter], starts[letter + 1]);
  }
  result.markup = text.markup;
  return text_value(std::move(result));
}

}  // namespace

Value attribute_of(Budget& budget, const Value& object, std::string_view name) {
  require_defined(object);
  Value found;
  if (find_attribute(object, name, found)) return found;
  if (const Dict* dict = object.dict(); dict != nullptr && !is_internal(name)) {
    budget.work(name.size());
    if (const Value* item = find(*dict, name)) return *item;
  }
  return missing(object, name);
}

Value own_attribute_of(const Value& object, std::string_view name) {
  require_defined(object);
  Value found;
  return find_attribute(object, name, found) ? found : missing(object, name);
}

Value element_of(Budget& budget, const Value& object, const Value& index) {
  require_defined(object);
  Value found;
  if (find_item(budget, object, index, found)) return found;
  if (!index.text()) return missing(object, type_name(index));
  if (find_attribute(object, index.text()->bytes, found)) return found;
  return missing(object, index.text()->bytes);
}

Value slice_of(Budget& budget, const Value& object, const Value& start, const Value& stop, const Value& step) {
  require_defined(object);
  if (object.text()) return slice_of_text(budget, *object.text(), start, stop, step);
  const Sequence* sequence = object.sequence();
  if (sequence == nullptr || !has_positions(*sequence)) fail(fmt::format("a value of type {} cannot be sliced", type_name(object)));
  const std::vector<Value>& items = sequence->items;
  const Positions positions = positions_of(static_cast<int64_t>(items.size()), start, stop, step);
  budget.work(static_cast<uint64_t>(positions.count) * sizeof(Value));
  if (sequence->kind == SequenceKind::kRange) {
    const int64_t first = sequence->start + positions.first * sequence->step;
    if (positions.count == 0) refuse("an empty slice of a range");
    const int64_t range_step = positions.count == 1 ? sequence->step : sequence->step * positions.step;
    return range_value(first, range_step, positions.count, first + positions.count * range_step);
  }
  std::vector<Value> taken;
  taken.reserve(static_cast<size_t>(positions.count));
  for (int64_t i = 0; i < positions.count; ++i) taken.push_back(items[static_cast<size_t>(positions.first + i * positions.step)]);
  return is_list(object) ? list_value(std::move(taken)) : tuple_value(std::move(taken));
}

Value path_of(Budget& budget, const Value& object, const Value& path) {
  if (!path.text()) return element_of(budget, object, path);
  Value reached = object;
  const std::string& text = path.text()->bytes;
  for (size_t begin = 0; begin <= text.size();) {
    budget.step();
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool number = !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
    reached = element_of(budget, reached, number ? integer(std::stoll(part)) : template_value(part));
    begin = end + 1;
  }
  return reached;
}

}  // namespace tritllm::jinja
