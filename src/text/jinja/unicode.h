// Owns the code points of a valid UTF-8 text and their classes as Python's str sees them. The tables are utf8proc's.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tritllm::jinja {

// The code point at byte `at` of valid UTF-8; moves `at` behind it.
char32_t next_code_point(std::string_view text, size_t& at) noexcept;
void append_code_point(std::string& text, char32_t code_point);

size_t count_code_points(std::string_view text) noexcept;

// The byte where the code point number `index` starts; the size of the text where it has no more than `index`.
size_t byte_of_code_point(std::string_view text, size_t index) noexcept;

bool is_space(char32_t code_point) noexcept;
bool is_line_break(char32_t code_point) noexcept;  // where splitlines() cuts
bool is_alphabetic(char32_t code_point) noexcept;
bool is_decimal(char32_t code_point) noexcept;
bool is_cased(char32_t code_point) noexcept;
bool is_upper(char32_t code_point) noexcept;
bool is_lower(char32_t code_point) noexcept;
bool is_printable(char32_t code_point) noexcept;  // what repr() shows as it is
bool is_word(char32_t code_point) noexcept;       // \w of a regular expression
bool is_name_part(char32_t code_point) noexcept;  // of an identifier

// Append the letter in another case. An Error of kUnsupported for upper and title case of the letters that become several (ß).
void append_upper(std::string& text, char32_t code_point);
void append_title(std::string& text, char32_t code_point);
void append_lower(std::string& text, char32_t code_point);  // without the rule of the final sigma
bool is_case_ignorable(char32_t code_point) noexcept;       // what that rule looks past

// [begin, end): the text without white space at its ends.
struct Bounds {
  size_t begin, end;
};
Bounds without_space(std::string_view text, bool left, bool right) noexcept;

}  // namespace tritllm::jinja
