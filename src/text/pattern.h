// Owns patterns of tokenizer.json, regular expressions and plain strings: translating and compiling them, and finding their matches
// in the order and with the rules for empty matches that HF tokenizers has. Does not own what is done with the matches.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/text_budget.h"
#include "text/tokenizer_parts.h"
#include "text/types.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;

namespace tritllm {

// What a thread needs to match, and the budget of the text that it matches: one for each call of encode, for all patterns.
class MatchScratch {
 public:
  explicit MatchScratch(size_t text_bytes);
  ~MatchScratch();
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;

  TextBudget& budget() noexcept { return budget_; }
  // For another text.
  void restart(size_t text_bytes) { budget_ = TextBudget(text_bytes); }

 private:
  friend class Pattern;

  TextBudget budget_;
  pcre2_real_match_data_8* data_;
  pcre2_real_match_context_8* limits_;
};

class Pattern {
 public:
  static Pattern regex(std::string_view oniguruma, const std::string& where);
  static Pattern literal(std::string text, const std::string& where);
  // {"Regex": "…"} or {"String": "…"}.
  static Pattern parse(const JsonView& component);

  // The first match that starts at byte `from` or later.
  std::optional<TextSpan> find(std::string_view text, size_t from, MatchScratch& scratch) const;

  // The text that a plain pattern looks for; empty for a regular expression.
  const std::string& literal_text() const noexcept { return literal_; }

 private:
  Pattern() = default;

  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  struct Compiled {
    std::unique_ptr<pcre2_real_code_8, FreeCode> code;
    bool has_jit = false;
  };
  // One call of PCRE2: what it may look at and how often it may backtrack from one place.
  struct Attempt {
    size_t from, end;
    uint32_t backtracks;
    bool anchored;
  };

  static Compiled compile(std::string_view pattern, uint32_t options, std::string_view oniguruma, const std::string& where);
  int run(std::string_view text, const Attempt& attempt, MatchScratch& scratch) const;
  std::optional<TextSpan> find_regex(std::string_view text, size_t from, MatchScratch& scratch) const;
  // Whether a match starts at byte `at`. `found` is its span.
  bool match_at(std::string_view text, size_t at, MatchScratch& scratch, TextSpan& found) const;
  [[noreturn]] void fail(size_t at, std::string_view problem) const;

  std::string literal_;
  Compiled search_, anchored_;  // null for a plain pattern
  std::string where_;
};

// All matches in a text, one after the other; an empty match right behind another match is none.
class MatchCursor {
 public:
  MatchCursor(const Pattern& pattern, std::string_view text, MatchScratch& scratch)
      : pattern_(pattern), text_(text), scratch_(scratch) {}

  std::optional<TextSpan> next();

 private:
  const Pattern& pattern_;
  std::string_view text_;
  MatchScratch& scratch_;
  size_t from_ = 0;
  std::optional<size_t> last_end_;
};

// A text cut at its matches: every byte is in exactly one piece, in order.
struct Segment {
  TextSpan span;
  bool is_match;
};

class SegmentCursor {
 public:
  SegmentCursor(const Pattern& pattern, std::string_view text, MatchScratch& scratch)
      : text_(text), matches_(pattern, text, scratch) {}

  std::optional<Segment> next();

 private:
  std::string_view text_;
  MatchCursor matches_;
  size_t done_ = 0;
  std::optional<TextSpan> match_;  // found, but the text before it came first
};

// Translates a regular expression in Oniguruma's syntax (regex_syntax.cpp): the pattern for PCRE2 with the options UTF, UCP,
// MULTILINE and NO_AUTO_CAPTURE and newlines of LF alone.
std::string translate_regex(std::string_view oniguruma, const std::string& where);

}  // namespace tritllm
