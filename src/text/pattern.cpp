#include "text/pattern.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>

#include "text/unicode.h"

namespace tritllm {
namespace {

// Searching for a plain text costs at most its length for each byte, so a file must not choose a long one.
constexpr size_t kLongestLiteral = 256;

// A search starts with a window of the text and a limit on backtracks from one place, so small that no call of PCRE2 takes more
// than a millisecond whatever the pattern: PCRE2 counts backtracks only, from each place anew, and cannot be interrupted. Where
// these do not suffice, one place at a time is tried with more, and the clock is read after each attempt.
constexpr size_t kWindow = 128;
constexpr uint32_t kBacktracks = 128;
constexpr size_t kSearchCost = 16;  // units of TextBudget: the clock is read every 16 searches
constexpr uint32_t kMostBacktracks = UINT32_MAX / 8;
constexpr uint32_t kHeapLimitKib = 64 * 1024;

// Four times as much, but only twice where an attempt may take tens of milliseconds.
template <typename Count>
Count grown(Count count, size_t window, uint32_t backtracks) {
  return count * (window * backtracks < size_t{1} << 26 ? 4 : 2);
}

size_t window_end(std::string_view text, size_t from, size_t window) {
  if (window >= text.size() - from) return text.size();
  size_t end = from + window;
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) ++end;
  return end;
}

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

struct FreeCompileContext {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

}  // namespace

MatchScratch::MatchScratch(size_t text_bytes)
    : budget_(text_bytes), data_(pcre2_match_data_create(1, nullptr)), limits_(pcre2_match_context_create(nullptr)) {
  if (data_ == nullptr || limits_ == nullptr) {
    pcre2_match_data_free(data_);
    pcre2_match_context_free(limits_);
    throw std::bad_alloc();
  }
  pcre2_set_heap_limit(limits_, kHeapLimitKib);
}

MatchScratch::~MatchScratch() {
  pcre2_match_data_free(data_);
  pcre2_match_context_free(limits_);
}

void Pattern::FreeCode::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Pattern::Compiled Pattern::compile(std::string_view pattern, uint32_t options, std::string_view oniguruma,
                                   const std::string& where) {
  const std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  options |= PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  size_t error_at = 0;
  Compiled compiled;
  compiled.code.reset(pcre2_compile(bytes_of(pattern), pattern.size(), options, &error, &error_at, context.get()));
  if (!compiled.code) {
    throw Error(ErrorCode::kUnsupported, where,
                fmt::format("the regular expression is not understood ({}): {}", pcre2_message(error), printable(oniguruma)));
  }
  // Where the system forbids writing code at run time the same pattern is interpreted.
  compiled.has_jit = pcre2_jit_compile(compiled.code.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
  return compiled;
}

Pattern Pattern::regex(std::string_view oniguruma, const std::string& where) {
  const std::string translated = translate_regex(oniguruma, where);
  Pattern pattern;
  pattern.where_ = where;
  pattern.search_ = compile(translated, 0, oniguruma, where);
  pattern.anchored_ = compile(translated, PCRE2_ANCHORED, oniguruma, where);
  return pattern;
}

Pattern Pattern::literal(std::string text, const std::string& where) {
  if (text.empty() || text.size() > kLongestLiteral) {
    throw unsupported(where, fmt::format("a pattern string of {} bytes", text.size()),
                      fmt::format("1 to {} bytes", kLongestLiteral));
  }
  Pattern pattern;
  pattern.where_ = where;
  pattern.literal_ = std::move(text);
  return pattern;
}

Pattern Pattern::parse(const JsonView& component) {
  allow_only(component, {"Regex", "String"});
  if (component.json().size() != 1) {
    throw Error(ErrorCode::kBadInput, component.where(), "expected one of the fields \"Regex\" and \"String\"");
  }
  if (component.json().contains("String")) return literal(component.text("String"), component.where());
  return regex(component.text("Regex"), component.where());
}

std::optional<TextSpan> Pattern::find(std::string_view text, size_t from, MatchScratch& scratch) const {
  if (search_.code) return find_regex(text, from, scratch);
  scratch.budget_.work(1, where_);
  const size_t begin = text.find(literal_, from);
  if (begin == std::string_view::npos) return std::nullopt;
  return TextSpan{begin, begin + literal_.size()};
}

int Pattern::run(std::string_view text, const Attempt& attempt, MatchScratch& scratch) const {
  const Compiled& compiled = attempt.anchored ? anchored_ : search_;
  // The text is known to be valid; checking it for each match would make the whole quadratic. A match that would look past the
  // window is PCRE2_ERROR_PARTIAL.
  const uint32_t options = PCRE2_NO_UTF_CHECK | (attempt.end < text.size() ? PCRE2_PARTIAL_HARD : 0);
  pcre2_set_match_limit(scratch.limits_, attempt.backtracks);
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (compiled.has_jit) {
    found =
        pcre2_jit_match(compiled.code.get(), bytes_of(text), attempt.end, attempt.from, options, scratch.data_, scratch.limits_);
  }
  // Compiled code keeps its alternatives in 32 KiB of the machine's stack; the interpreter keeps them on the heap, up to its limit.
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(compiled.code.get(), bytes_of(text), attempt.end, attempt.from, options | PCRE2_NO_JIT, scratch.data_,
                        scratch.limits_);
  }
  const bool is_expected =
      found >= 0 || found == PCRE2_ERROR_NOMATCH || found == PCRE2_ERROR_PARTIAL || found == PCRE2_ERROR_MATCHLIMIT;
  if (!is_expected) fail(attempt.from, pcre2_message(found));
  return found;
}

void Pattern::fail(size_t at, std::string_view problem) const {
  throw Error(ErrorCode::kUnsupported, where_,
              fmt::format("the regular expression cannot be matched at byte {} of the text ({})", at, problem));
}

std::optional<TextSpan> Pattern::find_regex(std::string_view text, size_t from, MatchScratch& scratch) const {
  const size_t* span = pcre2_get_ovector_pointer(scratch.data_);
  while (true) {
    const size_t end = window_end(text, from, kWindow);
    scratch.budget_.work(kSearchCost, where_);
    const int found = run(text, {from, end, kBacktracks, false}, scratch);
    if (found >= 0 && (span[0] < end || end == text.size())) return TextSpan{span[0], span[1]};
    if (found >= 0 || found == PCRE2_ERROR_NOMATCH) {
      if (end == text.size()) return std::nullopt;
      from = end;
      continue;
    }
    // Of the places before a partial match none matches. Which place has met the limit is not known.
    if (found == PCRE2_ERROR_PARTIAL) from = span[0];
    if (TextSpan match; match_at(text, from, scratch, match)) return match;
    if (from == text.size()) return std::nullopt;
    from += character_at(text, from).length;
  }
}

bool Pattern::match_at(std::string_view text, size_t at, MatchScratch& scratch, TextSpan& found) const {
  size_t window = kWindow;
  uint32_t backtracks = kBacktracks;
  while (true) {
    const size_t end = window_end(text, at, window);
    const int result = run(text, {at, end, backtracks, true}, scratch);
    if (result == PCRE2_ERROR_NOMATCH) return false;
    const size_t* span = pcre2_get_ovector_pointer(scratch.data_);
    // An empty match at the end of the window has not seen what follows.
    if (result >= 0 && (span[0] < end || end == text.size())) {
      found = {span[0], span[1]};
      return true;
    }
    scratch.budget_.check_time(where_);
    if (result != PCRE2_ERROR_MATCHLIMIT) {
      window = grown(window, window, backtracks);
    } else {
      if (backtracks > kMostBacktracks) fail(at, pcre2_message(result));
      backtracks = grown(backtracks, window, backtracks);
    }
  }
}

std::optional<TextSpan> MatchCursor::next() {
  while (from_ <= text_.size()) {
    const auto match = pattern_.find(text_, from_, scratch_);
    if (!match) {
      from_ = text_.size() + 1;
      return std::nullopt;
    }
    if (match->begin == match->end && last_end_ == match->end) {
      from_ += from_ < text_.size() ? character_at(text_, from_).length : 1;
      continue;
    }
    from_ = match->end;
    last_end_ = match->end;
    return match;
  }
  return std::nullopt;
}

std::optional<Segment> SegmentCursor::next() {
  if (!match_) match_ = matches_.next();
  const size_t gap_end = match_ ? match_->begin : text_.size();
  if (done_ < gap_end) {
    const TextSpan gap{done_, gap_end};
    done_ = gap_end;
    return Segment{gap, false};
  }
  if (!match_) return std::nullopt;
  const TextSpan match = *match_;
  done_ = match.end;
  match_.reset();
  return Segment{match, true};
}

}  // namespace tritllm
