#include "server/log_probabilities.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/utf8.h"

namespace tritllm::server {
namespace {

// JSON has no infinity; OpenAI writes so for what cannot be.
constexpr double kLeast = -9999;

Json number_of(float log_probability) { return std::isfinite(log_probability) ? Json(log_probability) : Json(kLeast); }

Json entry_of(const Tokenizer& tokenizer, TokenId token, float log_probability) {
  const std::string bytes = tokenizer.token_bytes(token);
  Json values = Json::array();
  for (const char byte : bytes) values.push_back(static_cast<unsigned char>(byte));
  return {{"token", token_name(tokenizer, token)}, {"logprob", number_of(log_probability)}, {"bytes", std::move(values)}};
}

size_t characters(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

std::string token_name(const Tokenizer& tokenizer, TokenId token) {
  const std::string bytes = tokenizer.token_bytes(token);
  if (is_valid_utf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return name;
}

Json chat_score_json(const Tokenizer& tokenizer, const TokenScore& score) {
  Json json = entry_of(tokenizer, score.token, score.log_probability);
  Json& top = json["top_logprobs"] = Json::array();
  for (const TokenLogProbability& other : score.top) top.push_back(entry_of(tokenizer, other.token, other.log_probability));
  return json;
}

void CompletionScores::add_name(TokenId token) {
  const std::string bytes = tokenizer_->token_bytes(token);
  tokens_.push_back(token_name(*tokenizer_, token));
  offsets_.push_back(offset_);
  offset_ += characters(bytes);
}

void CompletionScores::add_first(TokenId token) {
  add_name(token);
  scores_.push_back(nullptr);
  tops_.push_back(nullptr);
}

void CompletionScores::add(const TokenScore& score) {
  add_name(score.token);
  scores_.push_back(number_of(score.log_probability));
  Json top = Json::object();
  for (const TokenLogProbability& other : score.top) top[token_name(*tokenizer_, other.token)] = number_of(other.log_probability);
  tops_.push_back(std::move(top));
}

Json CompletionScores::take() {
  return {{"tokens", std::exchange(tokens_, Json::array())},
          {"token_logprobs", std::exchange(scores_, Json::array())},
          {"top_logprobs", top_ == 0 ? (tops_ = Json::array(), Json(nullptr)) : std::exchange(tops_, Json::array())},
          {"text_offset", std::exchange(offsets_, Json::array())}};
}

}  // namespace tritllm::server
