// Owns the question "is this well-formed UTF-8?", and ASCII capitals. Does not own normalisation or character classes (src/text, by
// libraries).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tritllm {

// Bytes of the well-formed UTF-8 sequence that `text` starts with (1 to 4), or 0 where it starts with none (empty, stray
// continuation byte, overlong form, surrogate, beyond U+10FFFF, cut short).
size_t utf8_sequence_length(std::string_view text) noexcept;

bool is_valid_utf8(std::string_view text) noexcept;

// a to z as capitals; all else as it is.
std::string ascii_capitals(std::string_view text);

}  // namespace tritllm
