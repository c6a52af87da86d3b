// Owns a conversation with a model: its messages, the settings that may change while it goes on, and the engine that answers. Does
// not own the console, nor what a line that the user typed means (chat_dialogue.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "engine/language_model.h"
#include "engine/service.h"

namespace tritllm::app {

struct ChatSettings {
  SamplerOptions sampler;        // its seed is not used
  std::optional<uint64_t> seed;  // nothing: another one for each answer
  uint32_t tokens = 0;           // of an answer at most; 0: as many as the context has room for
  Json template_variables = Json::object();
};

// How an answer came about.
struct AnswerStats {
  uint32_t prompt_tokens = 0, reused_tokens = 0, answer_tokens = 0;  // reused: prompt tokens that were still in the cache
  double prompt_seconds = 0, answer_seconds = 0;                     // up to the first token, and from there on
  FinishReason finish = FinishReason::kEndToken;

  double prompt_speed() const noexcept;  // tokens a second, without the reused ones
  double answer_speed() const noexcept;  // tokens a second; 0 for fewer than two tokens
};

struct AnswerHooks {
  std::function<void(std::string_view)> write;  // each piece of the answer, valid UTF-8
  std::function<bool()> stop;                   // asked again and again; true ends the answer
};

class ChatSession {
 public:
  // The model outlives the session; the settings are valid. Throws where it has no chat template, or the template refuses the
  // system message.
  ChatSession(LanguageModel& model, ChatSettings settings, CacheType cache, const std::string& system);

  // The answer joins the conversation, as far as it was written. Where the conversation with the message does not fit the context,
  // or anything else is wrong, an Error is thrown and the conversation stays as it was.
  AnswerStats ask(const std::string& message, const AnswerHooks& hooks);
  // Replaces the last answer.
  AnswerStats ask_again(const AnswerHooks& hooks);

  // Empty: none.
  void set_system(const std::string& text);
  std::string system() const;
  // Drops all messages but the system message.
  void clear();

  // Changes a number of the sampler, "seed" (a number, or "random"), "tokens" or "template_var" ("NAME=VALUE"; without a value, the
  // variable is dropped). "top-k" and "top_k" are one name. Throws an Error that lists the names or the range, and leaves the
  // settings as they were.
  void set(std::string_view name, std::string_view value);
  // One "name value" a line.
  std::string settings_text() const;
  const ChatSettings& settings() const noexcept { return settings_; }

  // {"messages": […], "settings": {…}}. Biases of single tokens are left out: other models number their tokens differently.
  Json to_json() const;
  // Throws an Error that names `where`, and changes nothing, where this model cannot go on with the document.
  void load(const Json& document, const std::string& where);

  size_t message_count() const noexcept { return messages_.size(); }
  uint32_t context() const noexcept { return model_.model().limits().positions; }
  uint32_t tokens_used() const noexcept { return last_.prompt_tokens + last_.answer_tokens; }
  uint64_t cache_bytes() const noexcept { return service_.cache_bytes(); }
  // Of all answers of the session together.
  const AnswerStats& totals() const noexcept { return totals_; }

 private:
  AnswerStats answer(Json messages, const AnswerHooks& hooks);
  GenerationRequest request_for(const Json& messages) const;
  void require_accepted(const Json& messages, const ChatSettings& settings) const;
  ChatSettings settings_with(ChatSettings settings, std::string_view name, std::string_view value) const;
  ChatSettings settings_from(const Json& json, const std::string& where) const;

  LanguageModel& model_;
  EngineService service_;
  ChatSettings settings_;
  Json messages_ = Json::array();
  AnswerStats last_, totals_;
};

}  // namespace tritllm::app
