// Owns how values read as text: Python's str() and repr(). Does not own JSON (json_filter).
#pragma once

#include <string>

#include "text/jinja/value.h"

namespace tritllm::jinja {

// What {{ value }} prints. Texts as they are, byte for byte of the same origin; a list or mapping that holds any text of the
// request counts as the request's altogether. Refuses what Python prints with an address or an internal name.
TrackedText printed(Budget& budget, const Value& value);

// The same, without copying a text: either `value`'s own or `storage`.
const TrackedText& printed(Budget& budget, const Value& value, TrackedText& storage);

std::string repr(Budget& budget, const Value& value);
std::string repr(double number);

// Whether a value is or holds a text of which any byte came from the request.
bool from_request(Budget& budget, const Value& value);

}  // namespace tritllm::jinja
