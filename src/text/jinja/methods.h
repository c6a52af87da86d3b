// Owns the methods of texts, lists, tuples and mappings: Python's, but for those that would change their object.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace tritllm::jinja {

using Method = Value (*)(Budget&, const Value& self, const Arguments&);

struct NamedMethod {
  std::string_view name;
  Method method;
};

// The method of that name: a function when there is one, an undefined value for one that would change the object (as Jinja's
// sandbox has it), nothing where Python has none either. Refuses those that Python has and this engine does not.
bool find_method(const Value& self, std::string_view name, Value& found);

// The parts of the table of texts' methods.
std::vector<NamedMethod> cutting_methods();
std::vector<NamedMethod> case_methods();
std::vector<NamedMethod> search_methods();

}  // namespace tritllm::jinja
