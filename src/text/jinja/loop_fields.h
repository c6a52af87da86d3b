// Owns the variable `loop`: its fields, and the peeking ahead that some of them need.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace tritllm::jinja {

bool find_loop_field(const Value& loop, std::string_view name, Value& found);

// Moves on to the next element; false at the end.
bool advance(Loop& loop, Value& element);

}  // namespace tritllm::jinja
