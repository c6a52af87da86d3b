// Owns one request while it is computed: how far its prompt is in the cache, the sampler, and the way from tokens to text that may
// be shown. Does not own when it is computed (engine.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/generation.h"
#include "engine/page_table.h"
#include "engine/stop_matcher.h"
#include "sampling/sampler.h"
#include "text/tokenizer.h"

namespace tritllm {

class Sequence {
 public:
  // `end_tokens` outlives the sequence. `pages` is the lease of a sequence that begins with reusable_prompt(request).
  Sequence(RequestId id, GenerationRequest request, std::shared_ptr<EventSink> sink, PageLease pages, const Tokenizer& tokenizer,
           std::span<const TokenId> end_tokens, uint32_t context, size_t vocabulary_size);

  RequestId id() const noexcept { return id_; }
  std::span<const TokenId> prompt() const noexcept { return request_.prompt; }

  // The part of a prompt that may come out of the cache. Where the prompt is to be scored, every token of it has to be computed.
  static std::span<const TokenId> reusable_prompt(const GenerationRequest& request) noexcept {
    return request.prompt_log_probabilities ? std::span(request.prompt).first(1) : request.prompt;
  }
  std::span<const TokenId> reusable_prompt() const noexcept { return reusable_prompt(request_); }

  PageLease& pages() noexcept { return pages_; }
  // Tokens in the cache.
  uint32_t computed() const noexcept { return pages_.length; }
  // Tokens that are not in the cache yet: the rest of the prompt, or the latest token of the answer.
  std::span<const TokenId> pending() const noexcept { return std::span(tokens_).subspan(computed()); }
  bool in_prompt() const noexcept { return computed() < request_.prompt.size(); }
  // The tokens that are in the cache now were found there.
  void note_reused() noexcept { reused_ = computed(); }
  uint32_t reused() const noexcept { return reused_; }
  uint32_t generated() const noexcept { return static_cast<uint32_t>(tokens_.size() - request_.prompt.size()); }

  // Whether the logits after the token at this position are wanted.
  bool wants_logits(uint32_t position) const noexcept;
  // Whether a backend may choose the tokens of the answer: the request does not need the logits themselves.
  bool draws() const noexcept;
  // Whether the answer may have one more token after the one that comes next, as far as its length goes.
  bool goes_on_after_next() const noexcept;
  // How the token after this position may be chosen by a backend; takes the next random number. Nothing where the logits are
  // needed.
  std::optional<DrawSettings> draw_settings(uint32_t position);
  void take_token(TokenId token);
  // Call for every position where wants_logits(), in order. Bad logits end this request alone, as kFailed.
  void take_logits(uint32_t position, std::span<const float> logits, SamplerRoom& room);

  // Whether it ends with the state of its prompt, which take_state() takes instead of logits.
  bool wants_state() const noexcept { return request_.state_of_prompt; }
  void take_state(std::vector<float> state);

  bool finished() const noexcept { return finish_.has_value(); }
  bool paused() const noexcept { return paused_; }
  void resume() noexcept { paused_ = false; }
  void cancel();
  void fail(const std::string& error);

 private:
  TokenScore score(std::span<const float> logits, TokenId token) const;
  // The logits of the tokens that the request's constraint leaves.
  std::span<const float> allowed(std::span<const float> logits, SamplerRoom& room) const;
  GenerationEvent choose(std::span<const float> logits, SamplerRoom& room);
  GenerationEvent event_of(TokenId token);
  // What the latest token adds to the text that may be shown; sets finish_ where the answer ends with it.
  std::string text_after(TokenId token);
  std::optional<FinishReason> reason_to_end(TokenId token) const noexcept;
  void report(GenerationEvent event);

  RequestId id_;
  GenerationRequest request_;
  std::shared_ptr<EventSink> sink_;
  PageLease pages_;
  Sampler sampler_;
  StreamDecoder decoder_;
  StopMatcher stops_;
  std::span<const TokenId> end_tokens_;
  uint32_t context_;
  std::vector<TokenId> tokens_;  // prompt and answer
  uint32_t reused_ = 0;
  bool paused_ = false;
  std::vector<TokenScore> prompt_scores_;
  std::optional<FinishReason> finish_;
};

}  // namespace tritllm
