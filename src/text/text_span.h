// Owns the name of a range of bytes of a text. Does not own what a range means: see its user.
#pragma once

#include <cstddef>

namespace tritllm {

struct TextSpan {
  size_t begin, end;  // bytes [begin, end) of a text
};

}  // namespace tritllm
