// Owns code points in text that is already known to be well-formed UTF-8. Does not own validation (core/utf8.h) nor character
// properties that change with the version of Unicode (PCRE2 and utf8proc have them).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tritllm {

struct Character {
  uint32_t code_point;
  size_t length;  // in bytes
};

// The character that starts at byte `at` < text.size().
Character character_at(std::string_view text, size_t at) noexcept;

// The first byte of the character that ends before byte `at` > 0.
size_t previous_character(std::string_view text, size_t at) noexcept;

void append_character(std::string& text, uint32_t code_point);

// Unicode's White_Space property, which is the same in all of its versions since 6.3.
bool is_white_space(uint32_t code_point) noexcept;

}  // namespace tritllm
