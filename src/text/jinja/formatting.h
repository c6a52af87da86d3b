// Owns Python's two ways to put values into a text: "{} {name:>5}".format(…) and "%s %d" % (…).
#pragma once

#include "text/jinja/value.h"

namespace tritllm::jinja {

TrackedText brace_formatted(Budget& budget, const TrackedText& pattern, const Arguments& arguments);

// `values`: a tuple of the values, a mapping for %(name)s, or the only value.
TrackedText percent_formatted(Budget& budget, const TrackedText& pattern, const Value& values);

}  // namespace tritllm::jinja
