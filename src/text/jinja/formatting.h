// Owns how values become text: Python's str() and repr(), "{}".format, "%s" % value, and JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace tritllm::jinja {

// What {{ value }} prints. Texts as they are, byte for byte of the same origin; a list or mapping that holds any text of the
// request counts as the request's altogether. Refuses what Python prints with an address or an internal name.
TrackedText printed(Budget& budget, const Value& value);

// The same, without copying a text: either `value`'s own or `storage`.
const TrackedText& printed(Budget& budget, const Value& value, TrackedText& storage);

std::string repr(Budget& budget, const Value& value);
std::string repr(double number);

// Whether a value is or holds a text with any byte from the request.
bool from_request(Budget& budget, const Value& value);

TrackedText brace_formatted(Budget& budget, const TrackedText& pattern, const Arguments& arguments);

// `values`: a tuple of the values, a mapping for %(name)s, or the only value.
TrackedText percent_formatted(Budget& budget, const TrackedText& pattern, const Value& values);

Value to_json(Budget& budget, const Value& value, const Arguments& arguments);

}  // namespace tritllm::jinja
