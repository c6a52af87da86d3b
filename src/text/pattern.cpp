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

// A pattern that looks at all of the text a few times for one match is sane; one that backtracks exponentially meets this limit.
constexpr uint32_t kLeastMatchLimit = 1'000'000;
constexpr size_t kMatchesPerByte = 32;
constexpr uint32_t kHeapLimitKib = 64 * 1024;

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

MatchScratch::MatchScratch(size_t longest_text)
    : data_(pcre2_match_data_create(1, nullptr)), limits_(pcre2_match_context_create(nullptr)) {
  if (data_ == nullptr || limits_ == nullptr) {
    pcre2_match_data_free(data_);
    pcre2_match_context_free(limits_);
    throw std::bad_alloc();
  }
  const size_t limit = std::clamp<size_t>(longest_text * kMatchesPerByte, kLeastMatchLimit, UINT32_MAX / 2);
  pcre2_set_match_limit(limits_, static_cast<uint32_t>(limit));
  pcre2_set_depth_limit(limits_, static_cast<uint32_t>(limit));
  pcre2_set_heap_limit(limits_, kHeapLimitKib);
}

MatchScratch::~MatchScratch() {
  pcre2_match_data_free(data_);
  pcre2_match_context_free(limits_);
}

void Pattern::FreeCode::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Pattern Pattern::regex(std::string_view oniguruma, const std::string& where) {
  const std::string translated = translate_regex(oniguruma, where);
  const std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  size_t error_at = 0;
  Pattern pattern;
  pattern.where_ = where;
  pattern.code_.reset(pcre2_compile(bytes_of(translated), translated.size(), kOptions, &error, &error_at, context.get()));
  if (!pattern.code_) {
    throw Error(ErrorCode::kUnsupported, where,
                fmt::format("the regular expression is not understood ({}): {}", pcre2_message(error), printable(oniguruma)));
  }
  // Where the system forbids writing code at run time the same pattern is interpreted.
  pattern.has_jit_ = pcre2_jit_compile(pattern.code_.get(), PCRE2_JIT_COMPLETE) == 0;
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

Pattern Pattern::parse(const Component& component) {
  component.allow_only({"Regex", "String"});
  if (component.json.size() != 1) {
    throw Error(ErrorCode::kBadInput, component.where, "expected one of the fields \"Regex\" and \"String\"");
  }
  if (component.json.contains("String")) return literal(json_string(component.json, "String", component.where), component.where);
  return regex(json_string(component.json, "Regex", component.where), component.where);
}

std::optional<TextSpan> Pattern::find(std::string_view text, size_t from, MatchScratch& scratch) const {
  if (!code_) {
    const size_t begin = text.find(literal_, from);
    if (begin == std::string_view::npos) return std::nullopt;
    return TextSpan{begin, begin + literal_.size()};
  }
  // The text is known to be valid; checking it for each match would make the whole quadratic.
  constexpr uint32_t kOptions = PCRE2_NO_UTF_CHECK;
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (has_jit_) found = pcre2_jit_match(code_.get(), bytes_of(text), text.size(), from, kOptions, scratch.data_, scratch.limits_);
  // Compiled code keeps its alternatives in 32 KiB of the machine's stack; the interpreter keeps them on the heap, up to its limit.
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(code_.get(), bytes_of(text), text.size(), from, kOptions | PCRE2_NO_JIT, scratch.data_, scratch.limits_);
  }
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    throw Error(ErrorCode::kUnsupported, where_,
                fmt::format("the regular expression cannot be matched at byte {} of the text ({})", from, pcre2_message(found)));
  }
  const size_t* span = pcre2_get_ovector_pointer(scratch.data_);
  return TextSpan{span[0], span[1]};
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
