// Owns the meaning of escapes in a template's string literals.
#pragma once

#include <string>
#include <string_view>

namespace tritllm::jinja {

// What the characters between the quotes read as. Fails, without a place, at a broken escape.
std::string unescaped(std::string_view literal);

}  // namespace tritllm::jinja
