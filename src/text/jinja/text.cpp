#include "text/jinja/text.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>

#include "text/jinja/formatting.h"
#include "text/jinja/limits.h"
#include "text/jinja/operators.h"
#include "text/unicode.h"

namespace tritllm::jinja {
namespace {

void check_growth(const TrackedText& text, size_t more) {
  if (more > kTextLimit || text.bytes.size() > kTextLimit - more) {
    fail(fmt::format("the template builds a text of more than the limit of {} bytes", kTextLimit));
  }
}

void mark(TrackedText& text, size_t begin, size_t end) {
  if (begin == end) return;
  if (!text.input.empty() && text.input.back().end == begin) text.input.back().end = end;
  else text.input.push_back({begin, end});
}

}  // namespace

TrackedText template_text(std::string bytes) { return {std::move(bytes), {}, false}; }

TrackedText request_text(std::string bytes) { return whole_text(std::move(bytes), true); }

TrackedText whole_text(std::string bytes, bool from_request) {
  TrackedText text;
  check_growth(text, bytes.size());
  text.bytes = std::move(bytes);
  if (from_request) mark(text, 0, text.bytes.size());
  return text;
}

void append(TrackedText& to, std::string_view trusted) {
  check_growth(to, trusted.size());
  to.bytes += trusted;
}

void append_request(TrackedText& to, std::string_view bytes) {
  const size_t begin = to.bytes.size();
  append(to, bytes);
  mark(to, begin, to.bytes.size());
}

void append(TrackedText& to, const TrackedText& part) { append(to, part, 0, part.bytes.size()); }

void append(TrackedText& to, const TrackedText& part, size_t begin, size_t end) {
  check_growth(to, end - begin);
  const size_t start = to.bytes.size();
  to.bytes.append(part.bytes, begin, end - begin);
  auto span = std::partition_point(part.input.begin(), part.input.end(), [&](const TextSpan& s) { return s.end <= begin; });
  for (; span != part.input.end() && span->begin < end; ++span) {
    mark(to, start + std::max(span->begin, begin) - begin, start + std::min(span->end, end) - begin);
  }
}

TrackedText slice(const TrackedText& text, size_t begin, size_t end) {
  TrackedText result;
  append(result, text, begin, end);
  result.markup = text.markup;
  return result;
}

namespace {

bool cased_before(std::string_view text, size_t at) noexcept {
  while (at > 0) {
    --at;
    while ((static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
    size_t next = at;
    const char32_t c = next_code_point(text, next);
    if (!is_case_ignorable(c)) return is_cased(c);
  }
  return false;
}

bool cased_after(std::string_view text, size_t at) noexcept {
  while (at < text.size()) {
    const char32_t c = next_code_point(text, at);
    if (!is_case_ignorable(c)) return is_cased(c);
  }
  return false;
}

// The small sigma has a form of its own at the end of a word.
void append_lower_in(std::string& to, std::string_view text, size_t begin, size_t end, char32_t c) {
  constexpr char32_t kSigma = 0x3a3, kFinalSigma = 0x3c2;
  if (c == kSigma && cased_before(text, begin) && !cased_after(text, end)) append_character(to, kFinalSigma);
  else append_lower(to, c);
}

bool starts_word_of_filter(char32_t c) noexcept { return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; }

// Which bytes of a text came from the request, asked in ascending order.
class Marks {
 public:
  explicit Marks(const TrackedText& text) : spans_(text.input) {}

  bool at(size_t byte) noexcept {
    while (next_ < spans_.size() && spans_[next_].end <= byte) ++next_;
    return next_ < spans_.size() && spans_[next_].begin <= byte;
  }

 private:
  const std::vector<TextSpan>& spans_;
  size_t next_ = 0;
};

}  // namespace

TrackedText escaped(Budget& budget, const TrackedText& text) {
  if (text.markup) return text;
  budget.work(text.bytes.size() * 2 + text.input.size() * sizeof(TextSpan));
  TrackedText result;
  Marks marks(text);
  size_t done = 0;
  for (size_t at = 0; at < text.bytes.size(); ++at) {
    static constexpr std::string_view kReserved = "&<>'\"";
    static constexpr std::string_view kEntities[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    const size_t index = kReserved.find(text.bytes[at]);
    if (index == std::string_view::npos) continue;
    append(result, text, done, at);
    if (marks.at(at)) append_request(result, kEntities[index]);
    else append(result, kEntities[index]);
    budget.work(kEntities[index].size());
    done = at + 1;
  }
  append(result, text, done, text.bytes.size());
  result.markup = true;
  return result;
}

size_t find_bytes(std::string_view text, std::string_view needle, size_t from) noexcept {
  if (from > text.size()) return std::string::npos;
  if (needle.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data()) : std::string::npos;
}

TrackedText with_case(Budget& budget, const TrackedText& text, LetterCase letter_case) {
  budget.work(text.bytes.size() * 16);  // each letter is looked up in several tables
  TrackedText result;
  result.markup = text.markup;
  Marks marks(text);
  bool inside_word = false;
  std::string letter;
  for (size_t at = 0; at < text.bytes.size();) {
    const size_t begin = at;
    const char32_t c = next_code_point(text.bytes, at);
    letter.clear();
    const bool lowers = letter_case == LetterCase::kLower || (letter_case != LetterCase::kUpper && inside_word);
    if (!lowers && has_long_upper_case(c)) refuse("upper or title case of a letter that becomes several (such as ß)");
    if (lowers) append_lower_in(letter, text.bytes, begin, at, c);
    else if (letter_case == LetterCase::kUpper || letter_case == LetterCase::kTitleOfFilter) append_upper(letter, c);
    else append_title(letter, c);
    inside_word = letter_case == LetterCase::kCapitalized     ? true
                  : letter_case == LetterCase::kTitleOfFilter ? !starts_word_of_filter(c)
                                                              : is_cased(c);
    if (marks.at(begin)) append_request(result, letter);
    else append(result, letter);
  }
  return result;
}

bool all_cased_are(Budget& budget, const TrackedText& text, bool upper) {
  budget.work(text.bytes.size() * 8);
  bool any = false;
  for (size_t at = 0; at < text.bytes.size();) {
    const char32_t c = next_code_point(text.bytes, at);
    if (!is_cased(c)) continue;
    if (upper ? !is_upper(c) : !is_lower(c)) return false;
    any = true;
  }
  return any;
}

TrackedText stripped(Budget& budget, const TrackedText& text, const TrackedText* chars, bool left, bool right) {
  budget.work(text.bytes.size() * 2);
  Bounds bounds{0, text.bytes.size()};
  if (chars == nullptr) {
    bounds = without_space(text.bytes, left, right);
  } else {
    std::u32string set;
    for (size_t at = 0; at < chars->bytes.size();) set += next_code_point(chars->bytes, at);
    if (set.size() > 256) refuse("stripping more than 256 different characters");
    budget.work(text.bytes.size() * set.size() / 8);
    const auto in_set = [&](size_t begin) {
      size_t next = begin;
      return set.find(next_code_point(text.bytes, next)) == std::u32string::npos ? size_t{0} : next - begin;
    };
    while (left && bounds.begin < bounds.end) {
      const size_t length = in_set(bounds.begin);
      if (length == 0) break;
      bounds.begin += length;
    }
    while (right && bounds.begin < bounds.end) {
      size_t start = bounds.end - 1;
      while ((static_cast<unsigned char>(text.bytes[start]) & 0xc0) == 0x80) --start;
      if (in_set(start) == 0) break;
      bounds.end = start;
    }
  }
  TrackedText result = slice(text, bounds.begin, bounds.end);
  result.markup = text.markup;
  return result;
}

TrackedText replaced(Budget& budget, const TrackedText& text, const TrackedText& old, const TrackedText& with, int64_t count) {
  if (text.markup && !with.markup) return replaced(budget, text, old, escaped(budget, with), count);
  budget.work(text.bytes.size() * 2);
  TrackedText result;
  result.markup = text.markup;
  const std::string_view bytes = text.bytes;
  size_t from = 0;
  // An empty `old` stands before every letter and at the end.
  size_t search = 0;
  while (count != 0) {
    const size_t found = search > bytes.size() ? std::string::npos : find_bytes(bytes, old.bytes, search);
    if (found == std::string::npos) break;
    append(result, text, from, found);
    append(result, with);
    budget.work(with.bytes.size() + with.input.size() * sizeof(TextSpan) + 1);
    from = found + old.bytes.size();
    search = from;
    if (old.bytes.empty()) {
      if (search == bytes.size()) ++search;
      else next_code_point(bytes, search);
    }
    --count;
  }
  append(result, text, from, bytes.size());
  return result;
}

TrackedText joined(Budget& budget, const TrackedText& separator, const std::vector<Value>& items, bool only_texts) {
  TrackedText result;
  result.markup = separator.markup;
  TrackedText storage;
  for (size_t i = 0; i < items.size(); ++i) {
    // Markup escapes whatever it joins, so that it need not be text.
    if (only_texts && !separator.markup && !items[i].text()) fail(fmt::format("join needs strings, found {}", type_name(items[i])));
    const TrackedText* part = &printed(budget, items[i], storage);
    if (separator.markup && !part->markup) part = &(storage = escaped(budget, *part));
    budget.work((part->bytes.size() + separator.bytes.size()) * 2);
    if (i > 0) append(result, separator);
    append(result, *part);
  }
  return result;
}

std::vector<TrackedText> lines_of(Budget& budget, const TrackedText& text, bool keep_ends) {
  budget.work(text.bytes.size() * 2);
  std::vector<TrackedText> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.bytes.size();) {
    const size_t end = at;
    const char32_t c = next_code_point(text.bytes, at);
    if (!is_line_break(c)) continue;
    if (c == '\r' && at < text.bytes.size() && text.bytes[at] == '\n') ++at;
    budget.work(sizeof(TrackedText) + sizeof(Value));
    lines.push_back(slice(text, begin, keep_ends ? at : end));
    begin = at;
  }
  if (begin < text.bytes.size()) lines.push_back(slice(text, begin, text.bytes.size()));
  return lines;
}

TrackedText repeated(Budget& budget, const TrackedText& text, int64_t count) {
  TrackedText result;
  result.markup = text.markup;
  if (text.bytes.empty()) return result;
  for (int64_t i = 0; i < count; ++i) {
    budget.work(text.bytes.size() + text.input.size() * sizeof(TextSpan));
    append(result, text);
  }
  return result;
}

}  // namespace tritllm::jinja
