// Owns the names that options have in the modules below and the flags that set them.
#pragma once

#include <string>

namespace tritllm::app {

// The text with "--max-memory" for "options.max_memory", and so on.
std::string with_flags(std::string text);

}  // namespace tritllm::app
