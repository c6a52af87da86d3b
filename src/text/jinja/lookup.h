// Owns what value.name and value[index] give, the variable `loop` included. No attribute of Python's own is reachable: only keys,
// elements, methods (builtins.h) and the fields of loops and namespaces.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/value.h"

namespace tritllm::jinja {

Value attribute_of(Budget& budget, const Value& object, std::string_view name);  // object.name
Value own_attribute_of(const Value& object, std::string_view name);              // the same, but no key of a mapping
Value element_of(Budget& budget, const Value& object, const Value& index);       // object[index]

// object[start:stop:step]; a bound left out is None.
Value slice_of(Budget& budget, const Value& object, const Value& start, const Value& stop, const Value& step);

// What a path such as "function.name" or "items.0" reaches: the `attribute` of map, sort and the like.
Value path_of(Budget& budget, const Value& object, const Value& path);

bool find_loop_field(const Value& loop, std::string_view name, Value& found);

// Moves on to the next element; false at the end.
bool advance(Loop& loop, Value& element);

}  // namespace tritllm::jinja
