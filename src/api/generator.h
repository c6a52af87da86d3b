// Owns a model with its engine as programs use it: a request is one JSON object, with the fields of the server's routes, and an
// answer is collected from its events. The C API and the Python module are two forms of this. Does not own how either reports
// errors.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"
#include "engine/event_queue.h"
#include "server/answer_parser.h"
#include "server/model_pool.h"

namespace tritllm::api {

struct GeneratorOptions {
  std::filesystem::path model;
  LoadOptions load;
  EngineOptions engine;
};

// {"model", "device", "arithmetic", "threads", "context", "slots", "cache", "cache_tokens"}, of which only the model is needed.
// Throws an Error that names the field.
GeneratorOptions read_generator_options(const Json& options);

// All that came of one request.
struct Answer {
  std::string text;
  std::vector<TokenId> tokens;            // end tokens included
  std::vector<TokenScore> scores;         // of these, where asked for
  std::vector<TokenScore> prompt_scores;  // of each token of the prompt but the first, where asked for
  std::optional<FinishReason> finish;
  std::string error;  // where it failed
  uint32_t prompt_tokens = 0, reused_tokens = 0;
  std::optional<server::AnswerFormat> format;  // of a conversation

  void add(const GenerationEvent& event);
};

// {"role", "content", "reasoning_content", "tool_calls"} of a conversation's answer, in OpenAI's shape.
Json message_of(const Answer& answer);
// The whole answer; with "message" where it answers a conversation.
Json to_json(const Answer& answer);

// One request on its way. Ends it where nobody waits for its end.
class Generation {
 public:
  Generation(std::shared_ptr<server::ServedModel> model, GenerationRequest request, std::optional<server::AnswerFormat> format);
  ~Generation() { cancel(); }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // The next event; nothing where none comes within this time. For one thread at a time.
  std::optional<GenerationEvent> next(std::chrono::milliseconds time);
  bool ended() const noexcept { return answer_.finish.has_value(); }
  // Of the events that next() has returned.
  const Answer& answer() const noexcept { return answer_; }
  // Thread-safe.
  void cancel();

 private:
  const std::shared_ptr<server::ServedModel> model_;
  const std::shared_ptr<EventQueue> events_ = std::make_shared<EventQueue>();
  Answer answer_;
  RequestId id_;
};

class Generator {
 public:
  explicit Generator(const GeneratorOptions& options);

  // `request` holds "prompt", a text or a list of tokens, or "messages"; and what docs/python.md lists. Throws an Error that names
  // the field.
  std::unique_ptr<Generation> start(const Json& request);

  // {"model", "device", "context", "vocabulary", "end_tokens", "has_chat_template", "weight_bytes_per_token", "warnings"}.
  Json facts() const;
  const LanguageModel& language() const noexcept { return model_->language; }
  // Tokens of a conversation: "messages", "tools", "chat_template_kwargs" of a request.
  std::vector<TokenId> encode_chat(const Json& request) const;

 private:
  std::filesystem::path path_;
  std::shared_ptr<server::ServedModel> model_;
};

}  // namespace tritllm::api
