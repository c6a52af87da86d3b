#include "app/chat_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "app/model_options.h"
#include "core/error.h"

namespace tritllm::app {
namespace {

Json message_of(std::string_view role, std::string_view content) { return {{"role", role}, {"content", content}}; }

bool has_role(const Json& message, std::string_view role) { return message.at("role").get_ref<const std::string&>() == role; }

Json with_system(const Json& messages, const std::string& text) {
  Json changed = Json::array();
  if (!text.empty()) changed.push_back(message_of("system", text));
  for (const Json& message : messages) {
    if (!has_role(message, "system")) changed.push_back(message);
  }
  return changed;
}

// Role and content alone: what else another program wrote could change what the template makes of the message.
Json validated_message(const Json& json, size_t index, const std::string& where) {
  const std::string place = fmt::format("{}: messages/{}", where, index);
  if (!json.is_object()) throw Error(ErrorCode::kBadInput, place, fmt::format("expected an object, found {}", json.type_name()));
  const std::string role = json_string(json, "role", place);
  if (role != "user" && role != "assistant" && (role != "system" || index != 0)) {
    throw Error(ErrorCode::kBadInput, place,
                fmt::format("expected the role user or assistant, or system in the first message, found '{}'", printable(role)));
  }
  return message_of(role, json_string(json, "content", place));
}

double speed(uint32_t tokens, double seconds) noexcept { return seconds > 0 ? tokens / seconds : 0; }

}  // namespace

double AnswerFigures::prompt_speed() const noexcept { return speed(prompt_tokens - reused_tokens, prompt_seconds); }
double AnswerFigures::answer_speed() const noexcept { return speed(answer_tokens - std::min(answer_tokens, 1u), answer_seconds); }

ChatSession::ChatSession(LanguageModel& model, ChatSettings settings, CacheType cache, const std::string& system)
    : model_(model),
      engine_(model.model(), model.tokenizer(), model.defaults().end_tokens, {.slots = 1, .cache = cache}),
      settings_(std::move(settings)) {
  validate(settings_.sampler, model_.model().config().vocabulary);
  set_system(system);
}

AnswerFigures ChatSession::ask(const std::string& message, const AnswerHooks& hooks) {
  Json messages = messages_;
  messages.push_back(message_of("user", message));
  return answer(std::move(messages), hooks);
}

AnswerFigures ChatSession::ask_again(const AnswerHooks& hooks) {
  Json messages = messages_;
  if (!messages.empty() && has_role(messages.back(), "assistant")) messages.erase(messages.size() - 1);
  if (messages.empty() || !has_role(messages.back(), "user")) {
    throw Error(ErrorCode::kUsage, "/regen", "there is no message yet that could be answered again");
  }
  return answer(std::move(messages), hooks);
}

AnswerFigures ChatSession::answer(Json messages, const AnswerHooks& hooks) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  };
  GenerationRequest request = request_for(messages);
  std::string text;
  GenerationEvent last;
  const Clock::time_point begin = Clock::now();
  std::optional<Clock::time_point> first_token;
  const RequestId id = engine_.submit(std::move(request), [&](const GenerationEvent& event) {
    if (!first_token) first_token = Clock::now();
    last = event;
    text += event.text;
    hooks.write(event.text);
  });
  try {
    while (engine_.step()) {
      if (hooks.stop()) engine_.cancel(id);
    }
  } catch (...) {
    // The engine must not keep a request whose listener is about to be gone.
    engine_.cancel(id);
    engine_.step();
    throw;
  }
  if (last.finish == FinishReason::kFailed) throw Error(ErrorCode::kBadInput, "generation", last.error);
  const Clock::time_point end = Clock::now();
  messages.push_back(message_of("assistant", text));
  messages_ = std::move(messages);
  last_ = {.prompt_tokens = last.prompt_tokens,
           .reused_tokens = last.reused_tokens,
           .answer_tokens = last.generated_tokens,
           .prompt_seconds = seconds(begin, *first_token),
           .answer_seconds = seconds(*first_token, end),
           .finish = *last.finish};
  totals_.prompt_tokens += last_.prompt_tokens;
  totals_.reused_tokens += last_.reused_tokens;
  totals_.answer_tokens += last_.answer_tokens;
  totals_.prompt_seconds += last_.prompt_seconds;
  totals_.answer_seconds += last_.answer_seconds;
  return last_;
}

GenerationRequest ChatSession::request_for(const Json& messages) const {
  GenerationRequest request;
  request.prompt = model_.encode_chat(messages);
  if (request.prompt.size() >= context()) {
    throw Error(ErrorCode::kUsage, "message",
                fmt::format("with it the talk takes {} tokens, which leaves no room for an answer in the context of {}",
                            request.prompt.size(), context()),
                "send a shorter one, or forget the talk with /clear, or start again with a larger --context");
  }
  request.sampler = settings_.sampler;
  request.sampler.seed = settings_.seed ? *settings_.seed : seed_of_the_moment();
  if (settings_.tokens != 0) request.max_tokens = settings_.tokens;
  return request;
}

// Templates refuse what they cannot write, a system message among others; better now than with the next question.
void ChatSession::require_system_is_taken(const Json& messages) const {
  Json trial = with_system(Json::array(), messages.empty() || !has_role(messages[0], "system") ? "" : messages[0].at("content"));
  trial.push_back(message_of("user", "?"));
  static_cast<void>(model_.encode_chat(trial));
}

void ChatSession::set_system(const std::string& text) {
  Json messages = with_system(messages_, text);
  require_system_is_taken(messages);
  messages_ = std::move(messages);
}

std::string ChatSession::system() const {
  return messages_.empty() || !has_role(messages_[0], "system") ? "" : messages_[0].at("content").get<std::string>();
}

void ChatSession::clear() {
  messages_ = with_system(Json::array(), system());
  last_ = {};
}

void ChatSession::set(std::string_view name, std::string_view value) {
  change_setting(settings_, name, value, model_.model().config().vocabulary);
}

Json ChatSession::to_json() const { return {{"messages", messages_}, {"settings", settings_json(settings_)}}; }

void ChatSession::load(const Json& document, const std::string& where) {
  if (!document.is_object())
    throw Error(ErrorCode::kBadInput, where, fmt::format("expected an object, found {}", document.type_name()));
  const Json& list = json_field(document, "messages", where);
  if (!list.is_array())
    throw Error(ErrorCode::kBadInput, where, fmt::format("messages: expected an array, found {}", list.type_name()));
  Json messages = Json::array();
  for (const Json& message : list) messages.push_back(validated_message(message, messages.size(), where));
  ChatSettings settings = settings_;
  if (document.contains("settings")) {
    settings = changed_settings(settings, document.at("settings"), model_.model().config().vocabulary, where);
  }
  require_system_is_taken(messages);
  if (!messages.empty()) static_cast<void>(model_.encode_chat(messages));
  messages_ = std::move(messages);
  settings_ = std::move(settings);
  last_ = {};
}

}  // namespace tritllm::app
