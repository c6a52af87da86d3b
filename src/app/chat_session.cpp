#include "app/chat_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "app/command.h"
#include "app/model_options.h"
#include "core/error.h"
#include "engine/event_queue.h"

namespace tritllm::app {
namespace {

constexpr std::string_view kNoSeed = "random";

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
Json validated_message(const JsonView& message, size_t index) {
  const std::string role = message.text("role");
  if (role != "user" && role != "assistant" && (role != "system" || index != 0)) {
    message.child("role").refuse("\"user\" or \"assistant\", or \"system\" in the first message");
  }
  return message_of(role, message.text("content"));
}

template <typename Number>
Number whole_number(std::string_view name, std::string_view text, std::string_view expected) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  throw Error(ErrorCode::kUsage, name, fmt::format("expected {}, found '{}'", expected, printable(text, 40)));
}

std::string setting_names() {
  std::string names;
  for (const SamplerField& field : sampler_fields()) names += fmt::format("{}, ", field.name);
  return names + "seed, tokens, template_var";
}

Json settings_json(const ChatSettings& settings) {
  Json json = to_json(settings.sampler);
  json.erase("logit_bias");
  json["seed"] = settings.seed ? Json(*settings.seed) : Json();
  json["tokens"] = settings.tokens;
  if (!settings.template_variables.empty()) json["template_vars"] = settings.template_variables;
  return json;
}

double speed(uint32_t tokens, double seconds) noexcept { return seconds > 0 ? tokens / seconds : 0; }

}  // namespace

double AnswerStats::prompt_speed() const noexcept { return speed(prompt_tokens - reused_tokens, prompt_seconds); }
double AnswerStats::answer_speed() const noexcept { return speed(answer_tokens - std::min(answer_tokens, 1u), answer_seconds); }

ChatSession::ChatSession(LanguageModel& model, ChatSettings settings, CacheType cache, const std::string& system)
    : model_(model), service_(model, {.slots = 1, .cache = cache}), settings_(std::move(settings)) {
  set_system(system);
}

AnswerStats ChatSession::ask(const std::string& message, const AnswerHooks& hooks) {
  Json messages = messages_;
  messages.push_back(message_of("user", message));
  return answer(std::move(messages), hooks);
}

AnswerStats ChatSession::ask_again(const AnswerHooks& hooks) {
  Json messages = messages_;
  if (!messages.empty() && has_role(messages.back(), "assistant")) messages.erase(messages.size() - 1);
  if (messages.empty() || !has_role(messages.back(), "user")) {
    throw Error(ErrorCode::kUsage, "/regen", "there is no message to answer again");
  }
  return answer(std::move(messages), hooks);
}

AnswerStats ChatSession::answer(Json messages, const AnswerHooks& hooks) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  };
  GenerationRequest request = request_for(messages);
  std::string text;
  GenerationEvent last;
  const Clock::time_point begin = Clock::now();
  std::optional<Clock::time_point> first_token;
  const auto events = std::make_shared<EventQueue>();
  const RequestId id = service_.submit(std::move(request), events);
  while (!last.finish) {
    if (hooks.stop()) service_.cancel(id);
    const auto event = events->pop(kStopInterval);
    if (!event) continue;
    if (!first_token) first_token = Clock::now();
    last = *event;
    text += event->text;
    try {
      hooks.write(event->text);
    } catch (...) {
      service_.cancel(id);
      throw;
    }
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
  request.prompt = model_.encode_chat(messages, settings_.template_variables);
  if (request.prompt.size() >= context()) {
    throw Error(ErrorCode::kUsage, "message",
                fmt::format("with it the conversation takes {} tokens, which leaves no room for an answer in the context of {}",
                            request.prompt.size(), context()),
                "send a shorter one, or forget the conversation with /clear, or start again with a larger --context");
  }
  request.sampler = settings_.sampler;
  request.sampler.seed = settings_.seed ? *settings_.seed : seed_of_the_moment();
  if (settings_.tokens != 0) request.max_tokens = settings_.tokens;
  return request;
}

// Templates refuse what they cannot write, for example a system message; better now than with the next question.
void ChatSession::require_accepted(const Json& messages, const ChatSettings& settings) const {
  Json trial = with_system(Json::array(), messages.empty() || !has_role(messages[0], "system") ? "" : messages[0].at("content"));
  trial.push_back(message_of("user", "?"));
  static_cast<void>(model_.encode_chat(trial, settings.template_variables));
}

void ChatSession::set_system(const std::string& text) {
  Json messages = with_system(messages_, text);
  require_accepted(messages, settings_);
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
  ChatSettings changed = settings_with(settings_, name, value);
  require_accepted(messages_, changed);
  settings_ = std::move(changed);
}

ChatSettings ChatSession::settings_with(ChatSettings settings, std::string_view name, std::string_view value) const {
  if (const SamplerField* const field = find_sampler_field(name)) {
    set_sampler_value(settings.sampler, *field, value);
  } else if (name == "seed") {
    settings.seed.reset();
    if (value != kNoSeed) settings.seed = whole_number<uint64_t>(name, value, "a whole number, or random");
  } else if (name == "tokens") {
    settings.tokens = whole_number<uint32_t>(name, value, "a whole number");
  } else if (name == "template_var" || name == "template-var") {
    auto [variable, content] = template_variable(value, model_, "template_var");
    if (value.ends_with('=')) settings.template_variables.erase(variable);
    else settings.template_variables[variable] = std::move(content);
  } else {
    throw Error(ErrorCode::kUsage, printable(name, 40), "is not a setting", "the settings are " + setting_names());
  }
  return settings;
}

std::string ChatSession::settings_text() const {
  std::string text;
  const auto add = [&](std::string_view name, std::string_view value) {
    text += fmt::format("{}{:<17} {}", text.empty() ? "" : "\n", name, value);
  };
  for (const SamplerField& field : sampler_fields()) add(field.name, sampler_value_text(settings_.sampler, field));
  add("seed", settings_.seed ? std::to_string(*settings_.seed) : kNoSeed);
  add("tokens", std::to_string(settings_.tokens));
  for (const auto& [name, value] : settings_.template_variables.items())
    add("template_var", fmt::format("{}={}", name, value.dump()));
  return text;
}

Json ChatSession::to_json() const { return {{"messages", messages_}, {"settings", settings_json(settings_)}}; }

void ChatSession::load(const Json& document, const std::string& where) {
  Json messages = Json::array();
  for (const JsonView& message : JsonView(document, where).child("messages").items())
    messages.push_back(validated_message(message, messages.size()));
  ChatSettings settings = document.contains("settings") ? settings_from(document.at("settings"), where) : settings_;
  require_accepted(messages, settings);
  if (!messages.empty()) static_cast<void>(model_.encode_chat(messages, settings.template_variables));
  messages_ = std::move(messages);
  settings_ = std::move(settings);
  last_ = {};
}

ChatSettings ChatSession::settings_from(const Json& json, const std::string& where) const {
  if (!json.is_object())
    throw Error(ErrorCode::kBadInput, where, fmt::format("settings: expected an object, found {}", json.type_name()));
  ChatSettings settings = settings_;
  for (const auto& [name, value] : json.items()) {
    const bool variables = name == "template_vars";
    if (variables ? !value.is_object() : !value.is_number() && !value.is_null()) {
      throw Error(ErrorCode::kBadInput, where,
                  fmt::format("settings: {}: expected {}, found {}", printable(name), variables ? "an object" : "a number",
                              value.type_name()));
    }
    try {
      if (variables) {
        for (const auto& [variable, content] : value.items()) require_template_variable(variable, model_, name);
        settings.template_variables = value;
      } else {
        settings = settings_with(std::move(settings), name, value.is_null() ? std::string(kNoSeed) : value.dump());
      }
    } catch (const Error& error) {
      throw Error(ErrorCode::kBadInput, where, fmt::format("settings: {}: {}", error.where(), error.problem()), error.remedy());
    }
  }
  return settings;
}

}  // namespace tritllm::app
