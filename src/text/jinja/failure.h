// Owns how the parts of the template engine report a failure whose place they do not know: the interpreter adds it.
#pragma once

#include <string_view>

namespace tritllm::jinja {

// Throws an Error of kBadInput without a place: the template did with its values what cannot be done.
[[noreturn]] void fail(std::string_view problem);

// Throws an Error of kUnsupported without a place: Jinja can do this, this engine does not.
[[noreturn]] void refuse(std::string_view construct);

}  // namespace tritllm::jinja
