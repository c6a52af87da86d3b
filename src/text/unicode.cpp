#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace tritllm {

Character character_at(std::string_view text, size_t at) noexcept {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[at + i])); };
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xe0) return {(first & 0x1f) << 6 | (byte(1) & 0x3f), 2};
  if (first < 0xf0) return {(first & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f), 3};
  return {(first & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f), 4};
}

size_t previous_character(std::string_view text, size_t at) noexcept {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80);
  return at;
}

void append_character(std::string& text, uint32_t code_point) {
  const auto add = [&](uint32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  const auto add_continuation = [&](unsigned shift) { add(0x80 | (code_point >> shift & 0x3f)); };
  if (code_point < 0x80) {
    add(code_point);
  } else if (code_point < 0x800) {
    add(0xc0 | code_point >> 6);
    add_continuation(0);
  } else if (code_point < 0x10000) {
    add(0xe0 | code_point >> 12);
    add_continuation(6);
    add_continuation(0);
  } else {
    add(0xf0 | code_point >> 18);
    add_continuation(12);
    add_continuation(6);
    add_continuation(0);
  }
}

bool is_white_space(uint32_t code_point) noexcept {
  if (code_point <= 0x20) return code_point == 0x20 || (code_point >= 0x09 && code_point <= 0x0d);
  switch (code_point) {
    case 0x85:
    case 0xa0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202f:
    case 0x205f:
    case 0x3000: return true;
    default: return code_point >= 0x2000 && code_point <= 0x200a;
  }
}

char32_t next_code_point(std::string_view text, size_t& at) noexcept {
  const Character character = character_at(text, at);
  at += character.length;
  return character.code_point;
}

namespace {

int category_of(char32_t code_point) noexcept { return utf8proc_category(static_cast<utf8proc_int32_t>(code_point)); }

bool within(int category, int first, int last) noexcept { return category >= first && category <= last; }

}  // namespace

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

bool is_space(char32_t c) noexcept { return is_white_space(c) || (c >= 0x1c && c <= 0x1f); }

bool is_line_break(char32_t c) noexcept {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_decimal(char32_t c) noexcept { return category_of(c) == UTF8PROC_CATEGORY_ND; }

bool is_upper(char32_t c) noexcept { return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0; }

bool is_lower(char32_t c) noexcept { return utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0; }

bool is_cased(char32_t c) noexcept { return is_upper(c) || is_lower(c) || category_of(c) == UTF8PROC_CATEGORY_LT; }

bool is_printable(char32_t c) noexcept {
  const int category = category_of(c);
  if (c == ' ') return true;
  return category != UTF8PROC_CATEGORY_CN && !within(category, UTF8PROC_CATEGORY_ZS, UTF8PROC_CATEGORY_CO);
}

bool is_numeral(char32_t c) noexcept { return within(category_of(c), UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO); }

bool is_name_part(char32_t c) noexcept {
  const int category = category_of(c);
  return within(category, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC;
}

void append_upper(std::string& text, char32_t c) {
  append_character(text, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

void append_title(std::string& text, char32_t c) {
  append_character(text, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
}

void append_lower(std::string& text, char32_t c) {
  if (c == 0x130) text += "i\xcc\x87";  // the one lower case of two code points
  else append_character(text, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
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

// The letters, and a few of their neighbours, whose upper case has several code points.
bool has_long_upper_case(char32_t c) noexcept {
  const auto in = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
  return c == 0xdf || c == 0x149 || c == 0x1f0 || c == 0x390 || c == 0x3b0 || c == 0x587 || in(0x1e96, 0x1e9a) ||
         in(0x1f50, 0x1f56) || in(0x1f80, 0x1faf) || in(0x1fb2, 0x1fb7) || c == 0x1fbc || in(0x1fc2, 0x1fc7) || c == 0x1fcc ||
         in(0x1fd2, 0x1fd7) || in(0x1fe2, 0x1fe7) || in(0x1ff2, 0x1ff7) || c == 0x1ffc || in(0xfb00, 0xfb06) || in(0xfb13, 0xfb17);
}

namespace {

using Points = std::vector<utf8proc_int32_t>;

Error library_error(utf8proc_ssize_t code) { return Error(ErrorCode::kBadInput, "text", utf8proc_errmsg(code)); }

// The longest decomposition (U+FDFA, NFKD) has 18 code points.
constexpr utf8proc_ssize_t kLongestDecomposition = 32;

Points decompose(std::string_view text, utf8proc_option_t options) {
  Points points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    at += character.length;
    utf8proc_int32_t buffer[kLongestDecomposition];
    int boundary_class = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(character.code_point), buffer, kLongestDecomposition,
                                               options, &boundary_class);
    if (count < 0 || count > kLongestDecomposition) throw library_error(count < 0 ? count : UTF8PROC_ERROR_OVERFLOW);
    points.insert(points.end(), buffer, buffer + count);
  }
  return points;
}

auto combining_class(utf8proc_int32_t point) { return utf8proc_get_property(point)->combining_class; }

// Canonical order: within each run of marks by their class, marks of one class as they stand.
void order_marks(Points& points) {
  for (auto mark = points.begin(); mark != points.end();) {
    if (combining_class(*mark) == 0) {
      ++mark;
      continue;
    }
    const auto end = std::find_if(mark, points.end(), [](utf8proc_int32_t point) { return combining_class(point) == 0; });
    std::ranges::stable_sort(mark, end, {}, combining_class);
    mark = end;
  }
}

}  // namespace

std::string to_unicode_form(std::string_view text, UnicodeForm form) {
  int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  if (form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd) options |= UTF8PROC_COMPAT;
  Points points = decompose(text, static_cast<utf8proc_option_t>(options));
  order_marks(points);
  if (form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc) {
    const auto count = utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                                static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (count < 0) throw library_error(count);
    points.resize(static_cast<size_t>(count));
  }
  std::string result;
  result.reserve(text.size());
  for (const utf8proc_int32_t point : points) append_character(result, static_cast<uint32_t>(point));
  return result;
}

}  // namespace tritllm
