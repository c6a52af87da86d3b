// Owns what reading the parts of tokenizer.json has in common: sequences of parts, allowed fields, and the error for whatever is
// not supported. Does not own what a part does.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"

namespace tritllm {

// Refuses a field that is not in the list: it might change the result.
void allow_only(const JsonView& component, std::initializer_list<std::string_view> fields);

// A component without its sequences: a lone part gives itself, a "Sequence" (in any nesting) its parts in order, null none.
// `member` is the field in which sequences of this kind keep their parts.
std::vector<JsonView> flatten_sequences(const JsonView& component, std::string_view member);

// `supported` lists what is.
Error unsupported(const std::string& where, std::string_view found, std::string_view supported);

}  // namespace tritllm
