// Owns the methods of texts, lists, tuples and mappings.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>

#include "text/jinja/builtins.h"
#include "text/jinja/formatting.h"
#include "text/jinja/limits.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"
#include "text/jinja/value.h"
#include "text/unicode.h"

namespace tritllm::jinja {
namespace {

template <bool kLeft, bool kRight>
Value strip(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("strip", arguments, {"chars"});
  return text_value(stripped(budget, *self.text(), bound.has(0) ? &bound.text(0) : nullptr, kLeft, kRight));
}

using Pieces = std::vector<TextSpan>;

void charge_piece(Budget& budget) { budget.work(sizeof(TextSpan) + sizeof(TrackedText) + sizeof(Value)); }

Pieces split_at(Budget& budget, std::string_view text, std::string_view separator, int64_t most) {
  Pieces pieces;
  size_t begin = 0;
  for (; most != 0; --most) {
    const size_t found = find_bytes(text, separator, begin);
    if (found == std::string::npos) break;
    charge_piece(budget);
    pieces.push_back({begin, found});
    begin = found + separator.size();
  }
  pieces.push_back({begin, text.size()});
  return pieces;
}

Pieces split_at_from_right(Budget& budget, std::string_view text, std::string_view separator, int64_t most) {
  // Occurrences that do not overlap, counted from the right; rfind's worst case is kept from growing by reading ahead only once.
  Pieces pieces;
  size_t end = text.size();
  for (size_t at = text.size(); most != 0 && at >= separator.size();) {
    if (text.compare(at - separator.size(), separator.size(), separator) != 0) {
      --at;
      continue;
    }
    charge_piece(budget);
    pieces.push_back({at, end});
    end = at - separator.size();
    at = end;
    --most;
  }
  pieces.push_back({0, end});
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

// Words and the place of each, for splitting at runs of white space.
Pieces words_of(Budget& budget, std::string_view text) {
  Pieces words;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const bool space = is_space(next_code_point(text, at));
    if (space) {
      inside = false;
    } else if (inside) {
      words.back().end = at;
    } else {
      charge_piece(budget);
      words.push_back({begin, at});
      inside = true;
    }
  }
  return words;
}

Pieces split_at_space(Budget& budget, std::string_view text, int64_t most, bool from_right) {
  Pieces words = words_of(budget, text);
  if (most < 0 || words.size() <= static_cast<size_t>(most)) return words;
  const size_t kept = static_cast<size_t>(most);
  // What is left over stays one piece, its inner white space included.
  if (from_right) {
    const size_t rest = words.size() - kept;
    words[rest - 1].begin = 0;
    words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(rest - 1));
  } else {
    words[kept].end = text.size();
    words.resize(kept + 1);
  }
  return words;
}

template <bool kFromRight>
Value split(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("split", arguments, {"sep", "maxsplit"});
  const TrackedText& text = *self.text();
  budget.work(text.bytes.size() * 2);
  const int64_t most = bound.integer(1, -1);
  Pieces pieces;
  if (!bound.has(0)) {
    pieces = split_at_space(budget, text.bytes, most, kFromRight);
  } else {
    const std::string& separator = bound.text(0).bytes;
    if (separator.empty()) fail("split needs a separator that is not empty");
    if (kFromRight) budget.work(text.bytes.size() * std::min<size_t>(separator.size(), 64));
    if (kFromRight && separator.size() > 64) refuse("rsplit with a separator of more than 64 bytes");
    pieces = kFromRight ? split_at_from_right(budget, text.bytes, separator, most) : split_at(budget, text.bytes, separator, most);
  }
  std::vector<Value> result;
  for (const TextSpan& piece : pieces) result.push_back(text_value(slice(text, piece.begin, piece.end)));
  return list_value(std::move(result));
}

Value splitlines(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("splitlines", arguments, {"keepends"});
  std::vector<Value> result;
  for (TrackedText& line : lines_of(budget, *self.text(), bound.boolean(0, false))) result.push_back(text_value(std::move(line)));
  return list_value(std::move(result));
}

template <bool kFromRight>
Value partition(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("partition", arguments, {"sep"}, 1);
  const TrackedText& text = *self.text();
  const TrackedText& separator = bound.text(0);
  if (separator.bytes.empty()) fail("partition needs a separator that is not empty");
  if (kFromRight && separator.bytes.size() > 64) refuse("rpartition with a separator of more than 64 bytes");
  budget.work(text.bytes.size() * (kFromRight ? separator.bytes.size() : 2));
  const size_t found = kFromRight ? text.bytes.rfind(separator.bytes) : find_bytes(text.bytes, separator.bytes);
  std::vector<Value> parts(3, text_value(slice(text, 0, 0)));
  if (found == std::string::npos) {
    parts[kFromRight ? 2 : 0] = self;
  } else {
    const size_t end = found + separator.bytes.size();
    parts = {text_value(slice(text, 0, found)), text_value(slice(text, found, end)),
             text_value(slice(text, end, text.bytes.size()))};
  }
  return tuple_value(std::move(parts));
}

Value removeprefix(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("removeprefix", arguments, {"prefix"}, 1);
  const TrackedText& text = *self.text();
  const std::string& prefix = bound.text(0).bytes;
  budget.work(text.bytes.size());
  return text.bytes.starts_with(prefix) ? text_value(slice(text, prefix.size(), text.bytes.size())) : self;
}

Value removesuffix(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("removesuffix", arguments, {"suffix"}, 1);
  const TrackedText& text = *self.text();
  const std::string& suffix = bound.text(0).bytes;
  budget.work(text.bytes.size());
  return text.bytes.ends_with(suffix) ? text_value(slice(text, 0, text.bytes.size() - suffix.size())) : self;
}

template <LetterCase kCase>
Value change_case(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a change of case", arguments, {});
  return text_value(with_case(budget, *self.text(), kCase));
}

bool is_digit_or_refused(char32_t c) {
  if (c >= 0x80 && is_numeral(c) && !is_decimal(c)) refuse("isdigit of a digit that is not decimal (such as ²)");
  return is_decimal(c);
}

Value isdigit_method(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("isdigit", arguments, {});
  const std::string& bytes = self.text()->bytes;
  budget.work(bytes.size());
  bool all = !bytes.empty();
  for (size_t at = 0; all && at < bytes.size();) all = is_digit_or_refused(next_code_point(bytes, at));
  return boolean(all);
}

template <bool kUpper>
Value all_cased(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(kUpper ? "isupper" : "islower", arguments, {});
  return boolean(all_cased_are(budget, *self.text(), kUpper));
}

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

using Method = Value (*)(Budget&, const Value& self, const Arguments&);
using MethodTable = std::unordered_map<std::string_view, Method>;

Value dict_get(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("get", arguments, {"key", "default"}, 1);
  if (bound.at(0).text()) budget.work(bound.at(0).text()->bytes.size());
  if (const Value* found = find(*self.dict(), bound.at(0))) return *found;
  return bound.get(1) ? *bound.get(1) : none();
}

template <SequenceKind kView>
Value dict_view(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a view of a mapping", arguments, {});
  budget.work(self.dict()->items.size() * 2 * sizeof(Value));
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->items) {
    items.push_back(kView == SequenceKind::kDictKeys     ? key
                    : kView == SequenceKind::kDictValues ? value
                                                         : tuple_value({key, value}));
  }
  return sequence_value(kView, std::move(items));
}

Value copy(Budget&, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("copy", arguments, {});
  return self;  // nothing can change either of the two
}

Value sequence_index(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("index", arguments, {"value"}, 1);
  const std::vector<Value>& items = self.sequence()->items;
  const auto found = std::find_if(items.begin(), items.end(), [&](const Value& item) { return equal(budget, item, bound.at(0)); });
  if (found == items.end()) fail("index: the value is not in the list");
  return integer(found - items.begin());
}

Value sequence_count(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("count", arguments, {"value"}, 1);
  const std::vector<Value>& items = self.sequence()->items;
  return integer(std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(budget, item, bound.at(0)); }));
}

const MethodTable& text_methods() {
  static const MethodTable table = {{"capitalize", change_case<LetterCase::kCapitalized>},
                                    {"count", count},
                                    {"endswith", stands_at<false>},
                                    {"find", find_text<false, false>},
                                    {"format", format},
                                    {"index", find_text<false, true>},
                                    {"isdigit", isdigit_method},
                                    {"islower", all_cased<false>},
                                    {"isupper", all_cased<true>},
                                    {"join", join},
                                    {"lower", change_case<LetterCase::kLower>},
                                    {"lstrip", strip<true, false>},
                                    {"partition", partition<false>},
                                    {"removeprefix", removeprefix},
                                    {"removesuffix", removesuffix},
                                    {"replace", replace},
                                    {"rfind", find_text<true, false>},
                                    {"rindex", find_text<true, true>},
                                    {"rpartition", partition<true>},
                                    {"rsplit", split<true>},
                                    {"rstrip", strip<false, true>},
                                    {"split", split<false>},
                                    {"splitlines", splitlines},
                                    {"startswith", stands_at<true>},
                                    {"strip", strip<true, true>},
                                    {"title", change_case<LetterCase::kTitle>},
                                    {"upper", change_case<LetterCase::kUpper>}};
  return table;
}

const MethodTable& dict_methods() {
  static const MethodTable table = {{"get", dict_get},
                                    {"keys", dict_view<SequenceKind::kDictKeys>},
                                    {"values", dict_view<SequenceKind::kDictValues>},
                                    {"items", dict_view<SequenceKind::kDictItems>},
                                    {"copy", copy}};
  return table;
}

const MethodTable& sequence_methods() {
  static const MethodTable table = {{"index", sequence_index}, {"count", sequence_count}};
  return table;
}

const MethodTable* methods_of(const Value& value) {
  if (value.text()) return &text_methods();
  if (value.dict()) return &dict_methods();
  if (is_list(value) || is_tuple(value) || (value.sequence() && value.sequence()->kind == SequenceKind::kRange)) {
    return &sequence_methods();
  }
  return nullptr;
}

bool is_one_of(std::initializer_list<std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool changes_its_object(const Value& value, std::string_view name) {
  if (value.dict()) return is_one_of({"clear", "pop", "popitem", "setdefault", "update"}, name);
  return is_list(value) && is_one_of({"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"}, name);
}

bool is_missing_here(const Value& value, std::string_view name) {
  if (value.text()) {
    return is_one_of({"casefold", "center",    "encode",       "expandtabs", "format_map",  "isalnum", "isalpha",
                      "isascii",  "isdecimal", "isidentifier", "isnumeric",  "isprintable", "isspace", "istitle",
                      "ljust",    "maketrans", "rjust",        "swapcase",   "translate",   "zfill"},
                     name);
  }
  if (value.dict()) return name == "fromkeys";
  if (is_list(value)) return name == "copy";
  if (is_integral(value) || value.is<double>()) {
    return is_one_of({"real", "imag", "numerator", "denominator", "bit_length", "bit_count", "conjugate", "to_bytes", "from_bytes",
                      "as_integer_ratio", "is_integer", "hex", "fromhex"},
                     name);
  }
  if (value.iterator()) return is_one_of({"send", "throw", "close"}, name);
  if (value.sequence()) return is_one_of({"start", "stop", "step", "isdisjoint", "mapping"}, name);
  return false;
}

}  // namespace

bool find_method(const Value& self, std::string_view name, Value& found) {
  if (changes_its_object(self, name)) {
    found = undefined(fmt::format("the method '{}' would change a value of type {}; values are immutable", name, type_name(self)));
    return true;
  }
  const MethodTable* table = methods_of(self);
  const auto entry = table ? table->find(name) : MethodTable::const_iterator{};
  if (table == nullptr || entry == table->end()) {
    if (is_missing_here(self, name)) refuse(fmt::format("'{}' of a value of type {}", name, type_name(self)));
    return false;
  }
  const auto call = [self, method = entry->second](Budget& budget, const Arguments& arguments) {
    return method(budget, self, arguments);
  };
  found = native_value(std::string(name), call, depth_of(self));
  return true;
}

}  // namespace tritllm::jinja
