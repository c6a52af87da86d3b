#include "text/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/error.h"
#include "text/characters.h"

namespace tritllm {
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
