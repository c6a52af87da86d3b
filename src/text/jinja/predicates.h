// Owns the tests of templates: what stands behind `is`.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace tritllm::jinja {

// Refuses, by name, what is no test here.
bool apply_test(Budget& budget, std::string_view name, const Value& input, const Arguments& arguments);

}  // namespace tritllm::jinja
