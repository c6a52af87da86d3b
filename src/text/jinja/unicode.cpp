#include "text/jinja/unicode.h"

#include <utf8proc.h>

#include "text/jinja/failure.h"

namespace tritllm::jinja {
namespace {

int category_of(char32_t code_point) noexcept { return utf8proc_category(static_cast<utf8proc_int32_t>(code_point)); }

bool within(int category, int first, int last) noexcept { return category >= first && category <= last; }

// The letters, and a few of their neighbours, whose upper case has several code points.
bool has_long_upper_case(char32_t c) noexcept {
  const auto in = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
  return c == 0xdf || c == 0x149 || c == 0x1f0 || c == 0x390 || c == 0x3b0 || c == 0x587 || in(0x1e96, 0x1e9a) ||
         in(0x1f50, 0x1f56) || in(0x1f80, 0x1faf) || in(0x1fb2, 0x1fb7) || c == 0x1fbc || in(0x1fc2, 0x1fc7) || c == 0x1fcc ||
         in(0x1fd2, 0x1fd7) || in(0x1fe2, 0x1fe7) || in(0x1ff2, 0x1ff7) || c == 0x1ffc || in(0xfb00, 0xfb06) || in(0xfb13, 0xfb17);
}

}  // namespace

char32_t next_code_point(std::string_view text, size_t& at) noexcept {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[at + i])); };
  const char32_t first = byte(0);
  char32_t code_point = first;
  size_t length = 1;
  if (first >= 0xf0) {
    code_point = (first & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f);
    length = 4;
  } else if (first >= 0xe0) {
    code_point = (first & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
    length = 3;
  } else if (first >= 0xc0) {
    code_point = (first & 0x1f) << 6 | (byte(1) & 0x3f);
    length = 2;
  }
  at += length;
  return code_point;
}

void append_code_point(std::string& text, char32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

size_t count_code_points(std::string_view text) noexcept {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return count;
}

size_t byte_of_code_point(std::string_view text, size_t index) noexcept {
  size_t at = 0;
  for (; at < text.size() && index > 0; --index) next_code_point(text, at);
  return at;
}

bool is_space(char32_t c) noexcept {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_line_break(char32_t c) noexcept {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_alphabetic(char32_t c) noexcept { return within(category_of(c), UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO); }

bool is_decimal(char32_t c) noexcept { return category_of(c) == UTF8PROC_CATEGORY_ND; }

bool is_upper(char32_t c) noexcept { return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0; }

bool is_lower(char32_t c) noexcept { return utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0; }

bool is_cased(char32_t c) noexcept { return is_upper(c) || is_lower(c) || category_of(c) == UTF8PROC_CATEGORY_LT; }

bool is_printable(char32_t c) noexcept {
  const int category = category_of(c);
  if (c == ' ') return true;
  return category != UTF8PROC_CATEGORY_CN && !within(category, UTF8PROC_CATEGORY_ZS, UTF8PROC_CATEGORY_CO);
}

bool is_word(char32_t c) noexcept {
  const int category = category_of(c);
  return c == '_' || within(category, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO) ||
         within(category, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool is_name_part(char32_t c) noexcept {
  const int category = category_of(c);
  return within(category, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC;
}

void append_upper(std::string& text, char32_t c) {
  if (has_long_upper_case(c)) refuse("upper case of a letter that becomes several (such as ß)");
  append_code_point(text, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

void append_title(std::string& text, char32_t c) {
  if (has_long_upper_case(c)) refuse("title case of a letter that becomes several (such as ß)");
  append_code_point(text, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
}

void append_lower(std::string& text, char32_t c) {
  if (c == 0x130) text += "i\xcc\x87";  // the one lower case of two code points
  else append_code_point(text, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

bool is_case_ignorable(char32_t c) noexcept {
  const int category = category_of(c);
  return c == '\'' || c == '.' || c == ':' || c == 0xb7 || c == 0x2019 || category == UTF8PROC_CATEGORY_MN ||
         category == UTF8PROC_CATEGORY_ME || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_LM ||
         category == UTF8PROC_CATEGORY_SK;
}

Bounds without_space(std::string_view text, bool left, bool right) noexcept {
  Bounds bounds{0, text.size()};
  while (left && bounds.begin < bounds.end) {
    size_t next = bounds.begin;
    if (!is_space(next_code_point(text, next))) break;
    bounds.begin = next;
  }
  while (right && bounds.begin < bounds.end) {
    size_t start = bounds.end - 1;
    while ((static_cast<unsigned char>(text[start]) & 0xc0) == 0x80) --start;
    size_t next = start;
    if (!is_space(next_code_point(text, next))) break;
    bounds.end = start;
  }
  return bounds;
}

}  // namespace tritllm::jinja
