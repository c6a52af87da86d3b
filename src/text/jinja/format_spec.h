// Owns the layout of one value in a field: sign, precision, width, fill. Shared by both ways of formatting.
#pragma once

#include <cstdint>
#include <string_view>

#include "text/jinja/value.h"

namespace tritllm::jinja {

struct FormatSpec {
  char32_t fill = ' ';
  char align = '\0';     // '<', '>', '^', '=' (between sign and digits); none: texts left, numbers right
  char sign = '-';       // '+': also before positive numbers, ' ': a space there
  bool grouped = false;  // thousands with commas
  bool alternate = false;
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
};

// [[fill]align][sign][#][0][width][,][.precision][type]
FormatSpec parse_format_spec(std::string_view spec);

// Fails where the type of the field does not suit the value.
TrackedText formatted(Budget& budget, const Value& value, const FormatSpec& spec);

}  // namespace tritllm::jinja
