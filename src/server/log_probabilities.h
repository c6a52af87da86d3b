// Owns how log probabilities are written: OpenAI's newer shape, of chats, and the older one, of completions. Does not own their
// values.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "engine/generation.h"
#include "text/tokenizer.h"

namespace tritllm::server {

// {"token", "logprob", "bytes", "top_logprobs"}.
Json chat_score_json(const Tokenizer& tokenizer, const TokenScore& score);

// The text of a token alone; bytes that are no UTF-8 become "bytes:\xe2\x80".
std::string token_name(const Tokenizer& tokenizer, TokenId token);

// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, which grows token by token.
class CompletionScores {
 public:
  CompletionScores(const Tokenizer& tokenizer, size_t top) : tokenizer_(&tokenizer), top_(top) {}
  void add_first(TokenId token);  // of a prompt: nothing came before it
  void add(const TokenScore& score);
  // What was added since the last call.
  Json take();

 private:
  void add_name(TokenId token);

  const Tokenizer* tokenizer_;
  size_t top_;
  size_t offset_ = 0;  // characters of the text so far
  Json tokens_ = Json::array(), scores_ = Json::array(), tops_ = Json::array(), offsets_ = Json::array();
};

}  // namespace tritllm::server
