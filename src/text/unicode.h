// Owns the code points of text that is already known to be valid UTF-8: reading and writing them, their classes and cases, and
// Unicode's normal forms. The tables are utf8proc's. Does not own validation (core/utf8.h) nor the classes of regular expressions
// (PCRE2 has its own tables).
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

// The code point at byte `at` < text.size(); moves `at` past it.
char32_t next_code_point(std::string_view text, size_t& at) noexcept;

// The first byte of the character that ends before byte `at` > 0.
size_t previous_character(std::string_view text, size_t at) noexcept;

void append_character(std::string& text, uint32_t code_point);

size_t count_code_points(std::string_view text) noexcept;

// The byte where code point number `index` starts; the size of the text if it has no more than `index`.
size_t byte_of_code_point(std::string_view text, size_t index) noexcept;

// Unicode's White_Space property, which is the same in all versions since 6.3.
bool is_white_space(uint32_t code_point) noexcept;

// Classes as Python's str sees them.
bool is_space(char32_t code_point) noexcept;       // White_Space and the separators U+001C to U+001F
bool is_line_break(char32_t code_point) noexcept;  // where splitlines() cuts
bool is_decimal(char32_t code_point) noexcept;
bool is_numeral(char32_t code_point) noexcept;  // a decimal digit, or another sign for a number such as ² or Ⅷ
bool is_cased(char32_t code_point) noexcept;
bool is_upper(char32_t code_point) noexcept;
bool is_lower(char32_t code_point) noexcept;
bool is_printable(char32_t code_point) noexcept;       // what repr() shows as it is
bool is_name_part(char32_t code_point) noexcept;       // of an identifier
bool is_case_ignorable(char32_t code_point) noexcept;  // what the rule of the final sigma looks past

// Append the letter in another case. Upper and title case are wrong for the letters with has_long_upper_case, such as ß.
void append_upper(std::string& text, char32_t code_point);
void append_title(std::string& text, char32_t code_point);
void append_lower(std::string& text, char32_t code_point);  // without the rule of the final sigma
bool has_long_upper_case(char32_t code_point) noexcept;     // upper case takes several code points

// [begin, end): the text without white space (is_space) at its ends.
struct Bounds {
  size_t begin, end;
};
Bounds without_space(std::string_view text, bool left, bool right) noexcept;

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// In time O(n log n): utf8proc composes, but it would order combining marks in quadratic time.
std::string to_unicode_form(std::string_view text, UnicodeForm form);

}  // namespace tritllm
