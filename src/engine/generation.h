// Owns what a caller asks the engine to write, and what comes back piece by piece. Does not own how JSON or flags spell it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sampling/logits.h"
#include "sampling/sampler_options.h"
#include "sampling/token_constraint.h"
#include "text/tokenizer.h"

namespace tritllm {

using RequestId = uint64_t;

inline constexpr size_t kMostReportedProbabilities = 100;

struct GenerationRequest {
  std::vector<TokenId> prompt;  // not empty
  SamplerOptions sampler;
  uint32_t max_tokens = UINT32_MAX;  // the context's end stops an answer in any case
  std::vector<std::string> stops;    // text at which the answer ends; not part of it
  bool ignore_end_tokens = false;
  std::shared_ptr<TokenConstraint> constraint;  // of the answer; of this request alone; null: none
  bool log_probabilities = false;               // of each token of the answer
  bool prompt_log_probabilities = false;        // of each token of the prompt but the first
  size_t top_log_probabilities = 0;             // how many of the most probable tokens come with each of these
  bool state_of_prompt = false;                 // instead of an answer: the final hidden state of the prompt's last token
};

// How probable the model held a token, without penalties and temperature.
struct TokenScore {
  TokenId token;
  float log_probability;
  std::vector<TokenLogProbability> top;
};

enum class FinishReason {
  kEndToken,
  kStopString,
  kLength,   // max_tokens
  kContext,  // the sequence fills the context
  kCancelled,
  kFailed,  // GenerationEvent::error says why
};

// "end_token", "stop_string", …
std::string_view finish_reason_name(FinishReason reason) noexcept;

struct GenerationEvent {
  RequestId request;
  std::string text;                       // valid UTF-8 that is certain to belong to the answer; may be empty
  std::optional<TokenId> token;           // the token that this event is about; end tokens included
  std::optional<TokenScore> score;        // of `token`, where asked for
  std::vector<TokenScore> prompt_scores;  // in the first event, where asked for
  std::vector<float> state;               // normed, as the head reads it, where asked for: then this is the only event
  std::optional<FinishReason> finish;     // in the last event
  std::string error;                      // where `finish` is kFailed
  uint32_t prompt_tokens = 0, reused_tokens = 0, generated_tokens = 0;  // so far; reused: prompt tokens found in the cache
};

// Takes the events of one request. Called by the engine's thread, for each token and at the end.
class EventSink {
 public:
  virtual ~EventSink() = default;
  // False: the sink has taken this event but wants no other for now. The request keeps its pages and waits for Engine::resume(). On
  // an asynchronous device one more event may follow, of the step that was launched ahead.
  virtual bool accept(GenerationEvent event) noexcept = 0;
};

// Hands every event to a function, which does not throw.
class FunctionSink final : public EventSink {
 public:
  explicit FunctionSink(std::function<void(const GenerationEvent&)> function) : function_(std::move(function)) {}
  bool accept(GenerationEvent event) noexcept override {
    function_(event);
    return true;
  }

 private:
  std::function<void(const GenerationEvent&)> function_;
};

}  // namespace tritllm
