// Owns the reading of numbers out of texts as Python's int() and float() do it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tritllm::jinja {

// Nothing if the text is not a number. Refuses whole numbers beyond 64 bits.
std::optional<int64_t> parse_integer(std::string_view text, int64_t base);
std::optional<double> parse_real(std::string_view text);

}  // namespace tritllm::jinja
