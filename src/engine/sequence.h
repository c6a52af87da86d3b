// Owns one request while it is alive: how far its prompt is computed, the sampler, and the way from tokens to text that may be
// shown.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/generation.h"
#include "sampling/sampler.h"
#include "engine/stop_matcher.h"
#include "text/stream_decoder.h"

namespace tritllm {

class Sequence {
 public:
  // `end_tokens` outlives the sequence.
  Sequence(RequestId id, GenerationRequest request, GenerationListener listener, const Tokenizer& tokenizer,
           std::span<const TokenId> end_tokens, uint32_t context, size_t vocabulary_size);

  RequestId id() const noexcept { return id_; }
  const GenerationRequest& request() const noexcept { return request_; }

  // The slot it was given, and how much of the prompt the slot held already.
  void start(uint32_t slot, uint32_t reused) noexcept;
  uint32_t slot() const noexcept { return slot_; }

  // Tokens whose keys and values are not in the cache yet: the rest of the prompt, or the latest token of the answer.
  std::span<const TokenId> pending() const noexcept { return std::span(tokens_).subspan(computed_); }
  uint32_t computed() const noexcept { return computed_; }
  bool in_prompt() const noexcept { return computed_ < request_.prompt.size(); }

  // The logits after the token at this position; call for every position where wants_logits(), in order.
  bool wants_logits(uint32_t position) const noexcept;
  // What is wrong with the logits ends this request alone, as kFailed.
  void take_logits(uint32_t position, std::span<const float> logits);
  // So many pending tokens are now in the cache.
  void advance(uint32_t count) noexcept { computed_ += count; }

  bool finished() const noexcept { return finish_.has_value(); }
  void cancel();
  // Ends without a further word to the listener.
  void abandon() noexcept { finish_ = FinishReason::kFailed; }

 private:
  TokenScore score(std::span<const float> logits, TokenId token) const;
  GenerationEvent choose(std::span<const float> logits);
  // What the latest token adds to the text that may be shown; sets finish_ where the answer ends with it.
  std::string text_after(TokenId token);
  std::optional<FinishReason> reason_to_end(TokenId token) const noexcept;
  void report(GenerationEvent event);

  RequestId id_;
  GenerationRequest request_;
  GenerationListener listener_;
  Sampler sampler_;
  SamplerRoom room_;
  StreamDecoder decoder_;
  StopMatcher stops_;
  std::span<const TokenId> end_tokens_;
  uint32_t context_;
  std::vector<TokenId> tokens_;  // prompt and answer
  uint32_t computed_ = 0;        // how many of them the cache holds
  uint32_t slot_ = 0, reused_ = 0;
  std::vector<TokenScore> prompt_scores_;
  std::optional<FinishReason> finish_;
};

}  // namespace tritllm
