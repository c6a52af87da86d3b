// The methods of texts that search, replace, join and pad.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "text/jinja/arguments.h"
#include "text/jinja/compare.h"
#include "text/jinja/failure.h"
#include "text/jinja/formatting.h"
#include "text/jinja/methods.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"

namespace tritllm::jinja {
namespace {

// The part [start, end) of a text that a search looks at, the bounds counted in letters as Python's are. Nothing where the bounds
// are the wrong way round: then not even an empty text is found.
struct Window {
  size_t begin, end;  // bytes
};

std::optional<Window> window_of(Budget& budget, const TrackedText& text, const BoundArguments& bound) {
  budget.work(text.bytes.size());
  if (!bound.has(1) && !bound.has(2)) return Window{0, text.bytes.size()};
  const auto letters = static_cast<int64_t>(count_code_points(text.bytes));
  const auto place = [&](size_t index, int64_t fallback) {
    const int64_t position = bound.has(index) ? bound.integer(index, 0) : fallback;
    return position < 0 ? (position < -letters ? 0 : position + letters) : position;
  };
  const int64_t start = place(1, 0), end = std::min(place(2, letters), letters);
  if (start > end) return std::nullopt;
  return Window{byte_of_code_point(text.bytes, static_cast<size_t>(start)),
                byte_of_code_point(text.bytes, static_cast<size_t>(end))};
}

// Whether any of a text or a tuple of texts stands at the beginning (else at the end) of the window.
template <bool kAtStart>
Value stands_at(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(kAtStart ? "startswith" : "endswith", arguments, {"prefix", "start", "end"}, 1);
  const TrackedText& text = *self.text();
  const std::optional<Window> window = window_of(budget, text, bound);
  if (is_tuple(bound.at(0))) budget.work(bound.at(0).sequence()->items.size() * sizeof(Value));
  const std::vector<Value> candidates = is_tuple(bound.at(0)) ? bound.at(0).sequence()->items : std::vector<Value>{bound.at(0)};
  for (const Value& candidate : candidates) {
    if (!candidate.text())
      fail(fmt::format("startswith and endswith need a string or a tuple of strings, found {}", type_name(candidate)));
    if (!window) continue;
    const std::string_view view = std::string_view(text.bytes).substr(window->begin, window->end - window->begin);
    budget.work(std::min(view.size(), candidate.text()->bytes.size()));
    if (kAtStart ? view.starts_with(candidate.text()->bytes) : view.ends_with(candidate.text()->bytes)) return boolean(true);
  }
  return boolean(false);
}

// The byte of the first (else the last) occurrence, or npos.
size_t search(Budget& budget, const TrackedText& text, const BoundArguments& bound, bool last) {
  const std::optional<Window> window = window_of(budget, text, bound);
  const std::string& needle = bound.text(0).bytes;
  if (!window) return std::string::npos;
  const std::string_view view = std::string_view(text.bytes).substr(0, window->end);
  budget.work(view.size() * 2 + needle.size());
  if (!last) {
    const size_t found = find_bytes(view, needle, window->begin);
    return found;
  }
  if (needle.size() > 64) refuse("a search from the right for more than 64 bytes");
  budget.work(view.size() * needle.size());
  const size_t found = view.rfind(needle);
  return found == std::string::npos || found < window->begin ? std::string::npos : found;
}

template <bool kLast, bool kMustExist>
Value find_text(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(kMustExist ? "index" : "find", arguments, {"sub", "start", "end"}, 1);
  const size_t found = search(budget, *self.text(), bound, kLast);
  if (found != std::string::npos) {
    return integer(static_cast<int64_t>(count_code_points(std::string_view(self.text()->bytes).substr(0, found))));
  }
  if (kMustExist) fail("index: the substring is not found");
  return integer(-1);
}

Value count(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("count", arguments, {"sub", "start", "end"}, 1);
  const std::optional<Window> window = window_of(budget, *self.text(), bound);
  if (!window) return integer(0);
  const std::string_view view = std::string_view(self.text()->bytes).substr(window->begin, window->end - window->begin);
  const std::string& needle = bound.text(0).bytes;
  budget.work(view.size() * 2);
  if (needle.empty()) return integer(static_cast<int64_t>(count_code_points(view)) + 1);
  int64_t found = 0;
  for (size_t at = find_bytes(view, needle); at != std::string::npos; at = find_bytes(view, needle, at + needle.size())) {
    budget.work(needle.size());
    ++found;
  }
  return integer(found);
}

Value replace(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"}, 2);
  return text_value(replaced(budget, *self.text(), bound.text(0), bound.text(1), bound.integer(2, -1)));
}

Value join(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"iterable"}, 1);
  return text_value(joined(budget, *self.text(), elements(budget, bound.at(0)), true));
}

Value format(Budget& budget, const Value& self, const Arguments& arguments) {
  return text_value(brace_formatted(budget, *self.text(), arguments));
}

enum class Side { kLeft, kRight, kBoth };

template <Side kTextSide>
Value pad(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a padding", arguments, {"width", "fillchar"}, 1);
  const TrackedText& text = *self.text();
  TrackedText fill = bound.get(1) ? bound.text(1) : template_text(" ");
  if (count_code_points(fill.bytes) != 1) fail("padding needs a fill of one character");
  budget.work(text.bytes.size());
  auto [left, right] = centering(count_code_points(text.bytes), bound.integer(0, 0));
  if (kTextSide == Side::kLeft) right += std::exchange(left, 0);
  if (kTextSide == Side::kRight) left += std::exchange(right, 0);
  TrackedText result = repeated(budget, fill, static_cast<int64_t>(left));
  append(result, text);
  append(result, repeated(budget, fill, static_cast<int64_t>(right)));
  return text_value(std::move(result));
}

}  // namespace

std::vector<NamedMethod> search_methods() {
  return {{"startswith", stands_at<true>},
          {"endswith", stands_at<false>},
          {"find", find_text<false, false>},
          {"rfind", find_text<true, false>},
          {"index", find_text<false, true>},
          {"rindex", find_text<true, true>},
          {"count", count},
          {"replace", replace},
          {"join", join},
          {"format", format},
          {"ljust", pad<Side::kLeft>},
          {"rjust", pad<Side::kRight>},
          {"center", pad<Side::kBoth>}};
}

}  // namespace tritllm::jinja
