// Owns the normalizer of tokenizer.json: what happens to a text before it is cut. Does not own cutting.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.h"
#include "text/tokenizer_parts.h"
#include "text/types.h"
#include "text/unicode.h"

namespace tritllm {

// A text on its way through the normalizer.
struct NormalizedText {
  std::string text;
  // For each byte of `text` the bytes that it comes from; only if `tracks_origins`.
  std::vector<TextSpan> origins;
  bool tracks_origins = false;
  // Whether `text` still starts with the first character of the source.
  bool keeps_start = true;

  NormalizedText(std::string_view source, bool track);

  void append(std::string_view bytes, TextSpan origin);
  // Bytes of the text before this step, unchanged.
  void copy(const NormalizedText& source, TextSpan span);
  // The smallest span that holds the origins of all bytes of `span`.
  TextSpan origin_of(TextSpan span) const;

  // An empty text that tracks what `source` does.
  static NormalizedText like(const NormalizedText& source);
};

class Normalizer {
 public:
  // `component` is the field of tokenizer.json, which may be null.
  static Normalizer parse(const JsonView& component);

  bool changes_nothing() const noexcept { return steps_.empty(); }

  NormalizedText apply(std::string_view source, bool track_origins, MatchScratch& scratch) const;

 private:
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Prepend {
    std::string text;
  };
  struct Strip {
    bool left, right;
  };
  struct Step {
    std::variant<UnicodeForm, Replace, Prepend, Strip> kind;
    std::string where;  // for errors
  };

  static Step parse_step(const JsonView& component);
  struct Run;

  std::vector<Step> steps_;
};

}  // namespace tritllm
