// Owns the decoder of tokenizer.json: the texts of tokens become readable text, token by token and never going back, always in
// valid UTF-8. Does not own which tokens are shown.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.h"
#include "text/tokenizer_parts.h"

namespace tritllm {

inline constexpr std::string_view kReplacementCharacter = "\uFFFD";

class Utf8Repair {
 public:
  // Appends to `out` what is certain; the start of a sequence that may still be completed is held back.
  void push(std::string_view bytes, std::string& out);
  // What was held back, as U+FFFD.
  void finish(std::string& out);

 private:
  std::string held_;
};

class TokenDecoder {
 public:
  // `component` is the field of tokenizer.json, which may be null.
  static TokenDecoder parse(const JsonView& component);

  // The bytes of one token within a text.
  std::string token_bytes(std::string_view token) const;

 private:
  friend class DecodeRun;

  struct Replace {
    Pattern pattern;
    std::string content;
    bool fits_fragments;  // a pattern of one character is found in any part of a token
  };
  struct ByteFallback {};
  struct Fuse {};
  struct ByteLevel {};
  struct JoinWithSpaces {};  // what HF tokenizers does without a decoder
  struct Strip {
    std::string content;   // one character
    uint64_t start, stop;  // how many of it go at most
  };
  struct Metaspace {
    std::string mark;
    bool drops_first;  // the marks of the first token go and do not become spaces
  };
  struct Stage {
    std::variant<Replace, ByteFallback, Fuse, ByteLevel, JoinWithSpaces, Strip, Metaspace> kind;
    std::string where;  // for errors
  };

  static Stage parse_stage(const JsonView& component);
  static Strip parse_strip(const JsonView& component);

  std::vector<Stage> stages_;
};

// One text on its way through a decoder, which outlives it. Tokens pass from stage to stage in fragments, so that after a stage
// that joins all tokens into one (Fuse) text still comes out as soon as it is certain.
class DecodeRun {
 public:
  explicit DecodeRun(const TokenDecoder& decoder);

  void push(std::string_view token, std::string& out);
  void finish(std::string& out);

 private:
  // What a stage remembers; each uses a part of it.
  struct State {
    std::string held;      // of the token that is not complete yet
    std::string bytes;     // of a run of byte tokens
    Utf8Repair repair;     //
    uint64_t tokens = 0;   // complete ones before this
    uint64_t removed = 0;  // characters taken off the start of this token
    bool at_start = true;  // nothing of this token was passed on
  };

  void consume(size_t index, std::string_view text, bool ends_token, std::string& out);
  void emit(size_t index, std::string_view text, bool ends_token, std::string& out) { consume(index + 1, text, ends_token, out); }

  using D = TokenDecoder;
  void apply(const D::Replace& stage, size_t index, std::string_view text, bool ends_token, std::string& out);
  void apply(const D::ByteFallback& stage, size_t index, std::string_view text, bool ends_token, std::string& out);
  void apply(const D::Fuse& stage, size_t index, std::string_view text, bool ends_token, std::string& out);
  void apply(const D::ByteLevel& stage, size_t index, std::string_view text, bool ends_token, std::string& out);
  void apply(const D::JoinWithSpaces& stage, size_t index, std::string_view text, bool ends_token, std::string& out);
  void apply(const D::Strip& stage, size_t index, std::string_view text, bool ends_token, std::string& out);
  void apply(const D::Metaspace& stage, size_t index, std::string_view text, bool ends_token, std::string& out);
  std::string replaced(const D::Replace& stage, size_t index, std::string_view text);
  void flush_bytes(size_t index, std::string& out);
  void finish_stage(size_t index, std::string& out);

  const TokenDecoder* decoder_;
  std::vector<State> states_;
  std::unique_ptr<MatchScratch> scratch_;
};

}  // namespace tritllm
