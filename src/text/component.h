// Owns access to the parts of tokenizer.json: type, allowed fields, and the error for whatever is not supported. Does not own what
// a part does.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"

namespace tritllm {

// A part of tokenizer.json and its place, e.g. "…/tokenizer.json: /normalizer/normalizers/0".
struct Component {
  const Json& json;
  std::string where;

  std::string type() const { return json_string(json, "type", where); }

  Component child(std::string_view key) const;

  // Refuses a field that is not in the list: it might change the result.
  void allow_only(std::initializer_list<std::string_view> fields) const;
};

// A component without its sequences: a lone part gives itself, a "Sequence" (in any nesting) its parts in order, null none.
// `member` is the field in which sequences of this kind keep their parts.
std::vector<Component> flatten_sequences(const Component& component, std::string_view member);

// `supported` lists what is.
Error unsupported(const std::string& where, std::string_view found, std::string_view supported);

}  // namespace tritllm
