// Owns the filter `tojson` as transformers defines it for chat templates: Python's json.dumps, without escapes for HTML.
#pragma once

#include "text/jinja/value.h"

namespace tritllm::jinja {

Value to_json(Budget& budget, const Value& value, const Arguments& arguments);

}  // namespace tritllm::jinja
