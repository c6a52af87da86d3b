// The methods of texts that cut: strip, split, partition and their kin.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "text/jinja/arguments.h"
#include "text/jinja/compare.h"
#include "text/jinja/failure.h"
#include "text/jinja/methods.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"

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
  std::vector<Value> parts(3, template_value(""));
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

}  // namespace

std::vector<NamedMethod> cutting_methods() {
  return {{"strip", strip<true, true>},    {"lstrip", strip<true, false>},  {"rstrip", strip<false, true>},
          {"split", split<false>},         {"rsplit", split<true>},         {"splitlines", splitlines},
          {"partition", partition<false>}, {"rpartition", partition<true>}, {"removeprefix", removeprefix},
          {"removesuffix", removesuffix}};
}

}  // namespace tritllm::jinja
