// Owns the tokenizer that a tokenizer.json describes, run as it is written: text to token ids and back. Does not own chat templates
// nor the choice of tokens that end a generation.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"
#include "text/types.h"

namespace tritllm {

struct EncodeOptions {
  bool add_special = true;    // what the post-processor puts around a text: BOS, …
  bool parse_special = true;  // whether the names of control tokens (added tokens that are "special") become these tokens
  // The spans of the text that come from users, ascending. A control token that overlaps one of them is ignored entirely: it
  // neither hides other tokens nor is hidden by them. Other added tokens are matched everywhere.
  std::span<const TextSpan> literal = {};
};

// Immutable: any number of threads may use one.
class Tokenizer {
 public:
  // `where` names the file in errors. Refuses whatever is not supported (docs/tokenizer.md).
  // `added_tokens` replaces the field of that name, unless it is null.
  static Tokenizer parse(std::string_view tokenizer_json, const std::string& where, const Json* added_tokens = nullptr);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // An Error of kBadInput for a text that is not valid UTF-8.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // Always valid UTF-8; unknown ids are skipped.
  std::string decode(std::span<const TokenId> ids, bool skip_special) const;

  std::optional<TokenId> token_id(std::string_view content) const;
  // As in tokenizer.json; empty for an unknown id.
  std::string_view token_content(TokenId id) const;
  // The bytes of a token within a text, which need not be valid UTF-8: "Ġthe" is " the", "<0xE2>" the byte E2.
  std::string token_bytes(TokenId id) const;
  bool is_special(TokenId id) const;
  bool is_known(TokenId id) const;
  size_t vocabulary_size() const;  // one more than the highest id
  // What the post-processor puts before a text: BOS for Llama and Gemma, nothing for Qwen and SmolLM2.
  std::vector<TokenId> prefix_tokens() const;

 private:
  friend class StreamDecoder;
  struct Parts;
  class Encoding;

  explicit Tokenizer(std::unique_ptr<const Parts> parts);
  // The text of a token for the decoder; nothing for a token that is not shown.
  std::optional<std::string_view> shown_text(TokenId id, bool skip_special) const;

  std::unique_ptr<const Parts> parts_;
};

class DecodeRun;

// Decodes token by token, for text that is shown while it is generated. All that push() and finish() return, put together, is what
// Tokenizer::decode makes of all the ids; each piece is valid UTF-8.
class StreamDecoder {
 public:
  // The tokenizer outlives this.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special);
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;
  ~StreamDecoder();

  // The text that no later token can change, without what was returned before.
  std::string push(TokenId id);
  // The rest, once no more tokens come: sequences that were never completed become U+FFFD.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::unique_ptr<DecodeRun> run_;
};

}  // namespace tritllm
