#include "engine/sequence.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace tritllm {

std::string_view finish_reason_name(FinishReason reason) noexcept {
  switch (reason) {
    case FinishReason::kEndToken: return "end_token";
    case FinishReason::kStopString: return "stop_string";
    case FinishReason::kLength: return "length";
    case FinishReason::kContext: return "context";
    case FinishReason::kCancelled: return "cancelled";
    case FinishReason::kFailed: return "failed";
  }
  return "";
}

Sequence::Sequence(RequestId id, GenerationRequest request, std::shared_ptr<EventSink> sink, PageLease pages,
                   const Tokenizer& tokenizer, std::span<const TokenId> end_tokens, uint32_t context, size_t vocabulary_size)
    : id_(id),
      request_(std::move(request)),
      sink_(std::move(sink)),
      pages_(std::move(pages)),
      sampler_(request_.sampler, vocabulary_size),
      decoder_(tokenizer, /*skip_special=*/true),
      stops_(request_.stops),
      end_tokens_(end_tokens),
      context_(context),
      tokens_(request_.prompt) {}

bool Sequence::wants_logits(uint32_t position) const noexcept {
  return request_.prompt_log_probabilities || position + 1 >= request_.prompt.size();
}

bool Sequence::draws() const noexcept {
  return !request_.log_probabilities && !request_.constraint && !request_.state_of_prompt && request_.max_tokens > 0 &&
         !sampler_.changes_logits();
}

bool Sequence::goes_on_after_next() const noexcept {
  return uint64_t{generated()} + 1 < request_.max_tokens && tokens_.size() + 1 < context_;
}

std::optional<DrawSettings> Sequence::draw_settings(uint32_t position) {
  const bool of_prompt = position + 1 < request_.prompt.size();
  if (of_prompt || !draws()) return std::nullopt;
  return sampler_.next_draw();
}

void Sequence::take_token(TokenId token) { report(event_of(token)); }

void Sequence::take_logits(uint32_t position, std::span<const float> logits, SamplerRoom& room) {
  const bool of_prompt = position + 1 < request_.prompt.size();
  GenerationEvent event;
  try {
    if (of_prompt) return prompt_scores_.push_back(score(logits, request_.prompt[position + 1]));
    event = choose(logits, room);
  } catch (const Error& error) {
    return fail(error.what());
  }
  report(std::move(event));
}

void Sequence::take_state(std::vector<float> state) {
  finish_ = FinishReason::kLength;
  GenerationEvent event{};
  event.state = std::move(state);
  report(std::move(event));
}

GenerationEvent Sequence::choose(std::span<const float> logits, SamplerRoom& room) {
  GenerationEvent event;
  if (request_.max_tokens == 0) {
    finish_ = FinishReason::kLength;
    return event;
  }
  const TokenId token = sampler_.sample(allowed(logits, room), tokens_, room);
  if (request_.constraint) request_.constraint->accept(token);
  event = event_of(token);
  if (request_.log_probabilities) event.score = score(logits, token);
  return event;
}

std::span<const float> Sequence::allowed(std::span<const float> logits, SamplerRoom& room) const {
  if (!request_.constraint) return logits;
  room.allowed.assign(logits.begin(), logits.end());
  request_.constraint->mask(room.allowed);
  return room.allowed;
}

GenerationEvent Sequence::event_of(TokenId token) {
  GenerationEvent event;
  event.token = token;
  tokens_.push_back(token);
  event.text = text_after(token);
  return event;
}

TokenScore Sequence::score(std::span<const float> logits, TokenId token) const {
  return {token, log_probability(logits, token), top_log_probabilities(logits, request_.top_log_probabilities)};
}

std::string Sequence::text_after(TokenId token) {
  finish_ = reason_to_end(token);
  std::string text;
  if (finish_ != FinishReason::kEndToken) text = stops_.push(decoder_.push(token));
  if (finish_ && !stops_.stopped()) {
    text += stops_.push(decoder_.finish());
    text += stops_.finish();
  }
  if (stops_.stopped()) finish_ = FinishReason::kStopString;
  return text;
}

std::optional<FinishReason> Sequence::reason_to_end(TokenId token) const noexcept {
  if (!request_.ignore_end_tokens && std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end()) {
    return FinishReason::kEndToken;
  }
  if (tokens_.size() - request_.prompt.size() >= request_.max_tokens) return FinishReason::kLength;
  if (tokens_.size() >= context_) return FinishReason::kContext;
  return std::nullopt;
}

void Sequence::cancel() {
  finish_ = FinishReason::kCancelled;
  report({});
}

void Sequence::fail(const std::string& error) {
  finish_ = FinishReason::kFailed;
  GenerationEvent event;
  event.error = error;
  report(std::move(event));
}

void Sequence::report(GenerationEvent event) {
  event.request = id_;
  event.finish = finish_;
  event.prompt_scores = std::exchange(prompt_scores_, {});
  event.prompt_tokens = static_cast<uint32_t>(request_.prompt.size());
  event.reused_tokens = reused_;
  event.generated_tokens = generated();
  paused_ = !sink_->accept(std::move(event));
}

}  // namespace tritllm
