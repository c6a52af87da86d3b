// Owns the table of filters. A filter takes the value before the bar and the arguments in its parentheses.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace tritllm::jinja {

using Filter = Value (*)(Budget&, const Value& input, const Arguments&);

// Refuses, by name, what is no filter here.
Value apply_filter(Budget& budget, std::string_view name, const Value& input, const Arguments& arguments);

struct NamedFilter {
  std::string_view name;
  Filter filter;
};

// The parts of the table.
std::vector<NamedFilter> text_filters();
std::vector<NamedFilter> number_filters();
std::vector<NamedFilter> sequence_filters();
std::vector<NamedFilter> selection_filters();

}  // namespace tritllm::jinja
