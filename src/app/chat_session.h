// Owns a talk with a model: its messages, its settings, and the engine that answers. Does not own the console, nor what a line that
// the user typed means (chat_dialogue.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "app/chat_settings.h"
#include "core/json.h"
#include "engine/engine.h"
#include "engine/language_model.h"

namespace tritllm::app {

// How an answer comes about.
struct AnswerFigures {
  uint32_t prompt_tokens = 0, reused_tokens = 0, answer_tokens = 0;  // reused: prompt tokens that were still in the cache
  double prompt_seconds = 0, answer_seconds = 0;                     // up to the first token, and from there on
  FinishReason finish = FinishReason::kEndToken;

  double prompt_speed() const noexcept;  // tokens a second; those that were reused do not count
  double answer_speed() const noexcept;  // likewise; 0 for fewer than two tokens
};

struct AnswerHooks {
  std::function<void(std::string_view)> write;  // each piece of the answer, valid UTF-8
  std::function<bool()> stop;                   // asked between the steps; true ends the answer
};

class ChatSession {
 public:
  // The model outlives the session. Throws where it has no chat template, or the template refuses the system message.
  ChatSession(LanguageModel& model, ChatSettings settings, CacheType cache, const std::string& system);

  // The answer joins the talk, as far as it was written. Where the talk with the message does not fit the context, or anything else
  // is wrong, an Error is thrown and the talk stays as it was.
  AnswerFigures ask(const std::string& message, const AnswerHooks& hooks);
  // Replaces the last answer.
  AnswerFigures ask_again(const AnswerHooks& hooks);

  // Empty: none.
  void set_system(const std::string& text);
  std::string system() const;
  // Forgets all but the system message and the settings.
  void clear();

  void set(std::string_view name, std::string_view value);
  const ChatSettings& settings() const noexcept { return settings_; }

  // {"messages": […], "settings": {…}}
  Json to_json() const;
  // Throws an Error that names `where`, and changes nothing, where the document is no talk that this model can go on with.
  void load(const Json& document, const std::string& where);

  size_t message_count() const noexcept { return messages_.size(); }
  uint32_t context() const noexcept { return model_.model().limits().positions; }
  uint32_t tokens_used() const noexcept { return last_.prompt_tokens + last_.answer_tokens; }
  uint64_t cache_bytes() const noexcept { return engine_.cache_bytes(); }
  // Of all answers of the session together.
  const AnswerFigures& totals() const noexcept { return totals_; }

 private:
  AnswerFigures answer(Json messages, const AnswerHooks& hooks);
  GenerationRequest request_for(const Json& messages) const;
  void require_system_is_taken(const Json& messages) const;

  LanguageModel& model_;
  Engine engine_;
  ChatSettings settings_;
  Json messages_ = Json::array();
  AnswerFigures last_, totals_;
};

}  // namespace tritllm::app
