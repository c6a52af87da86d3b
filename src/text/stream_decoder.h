// Owns decoding token by token, for text that is shown while it is generated. Does not own when a generation ends.
#pragma once

#include <string>

#include "text/token_decoder.h"
#include "text/tokenizer.h"

namespace tritllm {

// All that push() and finish() return, put together, is what Tokenizer::decode makes of all the ids; each piece is valid UTF-8.
class StreamDecoder {
 public:
  // The tokenizer outlives this.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special);

  // The text that no later token can change, without what was returned before.
  std::string push(TokenId id);
  // The rest, once no more tokens come: sequences that were never completed become U+FFFD.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  DecodeRun run_;
};

}  // namespace tritllm
