// The route /v1/chat/completions.
#include <ctime>
#include <utility>

#include "server/answer_parser.h"
#include "server/answering.h"
#include "server/api_error.h"
#include "server/api_server.h"
#include "server/generation_fields.h"
#include "server/log_probabilities.h"
#include "server/message_fields.h"
#include "server/messages.h"
#include "server/openai_writer.h"
#include "server/output_format.h"

namespace tritllm::server {
namespace {

RequestField required(RequestField field) {
  field.required = true;
  return field;
}

FieldTable chat_fields() {
  return joined({
      {{"model", FieldType::kText, "The model's name; without it, the first one.", 1, 1000}, required(messages_field())},
      generation_fields(),
      {{"max_completion_tokens", FieldType::kInteger, "The newer name of max_tokens.", 0, 4294967295.0},
       {"stream", FieldType::kBoolean, "The answer comes as server-sent events."},
       stream_options_field(),
       {"n", FieldType::kInteger, "How many answers to write.", 1, kMostChoices},
       {"logprobs", FieldType::kBoolean, "Log probabilities of the tokens of the answer."},
       {"top_logprobs", FieldType::kInteger, "With logprobs: so many of the most probable tokens.", 0, 20},
       tools_field(/*nested=*/true),
       tool_choice_field(/*nested=*/true),
       {"parallel_tool_calls", FieldType::kBoolean, "", 0, 0, false, FieldUse::kOneValue, "true"},
       template_variables_field(),
       {"reasoning_effort", FieldType::kText, "A variable for the chat template.", 1, 20},
       format_field("response_format", /*nested=*/true),
       {"modalities", FieldType::kAny, "", 0, 0, false, FieldUse::kOneValue, R"(["text"])"},
       {"store", FieldType::kAny, "", 0, 0, false, FieldUse::kOneValue, "false"}},
      form_fields(),
      labels(),
  });
}

class ChatWriter final : public AnswerWriter {
 public:
  ChatWriter(const ServedModel& model, const StreamOptions& stream, const AnswerFormat& format, size_t choices, bool scores)
      : name_(model.name), tokenizer_(model.tokenizer()), stream_(stream), scores_(scores), usage_(choices) {
    for (size_t i = 0; i < choices; ++i) choices_.emplace_back(format);
  }

  std::string begin() override {
    std::string text;
    for (size_t i = 0; i < choices_.size(); ++i) text += chunk(i, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
    return text;
  }

  std::string take(size_t index, const GenerationEvent& event) override {
    Choice& choice = choices_[index];
    usage_.note(index, event);
    std::vector<AnswerPart> parts = choice.parser.push(event.text);
    if (choice.parser.read_reasoning()) usage_.note_reasoning(index, event);
    if (event.finish) {
      for (AnswerPart& part : choice.parser.finish()) parts.push_back(std::move(part));
    }
    if (event.score && event.finish != FinishReason::kEndToken)
      choice.new_scores.push_back(chat_score_json(tokenizer_, *event.score));
    std::string text;
    for (const AnswerPart& part : parts) text += take_part(index, part);
    if (!event.finish) return text;
    choice.finish = openai_finish_reason(*event.finish);
    if (!choice.calls.empty() && choice.finish != "length") choice.finish = "tool_calls";
    if (stream_.stream) text += chunk(index, Json::object(), choice.finish, take_scores(choice));
    return text;
  }

  std::string end() override {
    return stream_end(stream_, stream_.include_usage ? with_choices(Json::array(), true, usage_.json()) : Json());
  }
  std::string failed(const std::string& error_body) override { return "data: " + error_body + "\n\n"; }

  HttpResponse whole() override {
    Json choices = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i) choices.push_back(choice_json(i));
    return {.body = json_line(with_choices(std::move(choices), false, usage_.json()))};
  }

 private:
  struct Choice {
    explicit Choice(const AnswerFormat& format) : parser(format) {}
    AnswerParser parser;
    std::string content, reasoning, finish;
    Json calls = Json::array(), new_scores = Json::array();
  };

  Json take_scores(Choice& choice) const {
    if (!scores_) return nullptr;
    return {{"content", std::exchange(choice.new_scores, Json::array())}, {"refusal", nullptr}};
  }

  std::string take_part(size_t index, const AnswerPart& part) {
    Choice& choice = choices_[index];
    Json delta;
    switch (part.kind) {
      case AnswerPart::Kind::kContent:
        if (!stream_.stream) choice.content += part.text;
        delta = {{"content", part.text}};
        break;
      case AnswerPart::Kind::kReasoning:
        if (!stream_.stream) choice.reasoning += part.text;
        delta = {{"reasoning_content", part.text}};
        break;
      case AnswerPart::Kind::kToolCall: {
        Json call = {{"id", new_id("call")}, {"type", "function"}, {"function", {{"name", part.name}, {"arguments", part.text}}}};
        const size_t number = choice.calls.size();
        choice.calls.push_back(call);
        if (stream_.stream) return call_chunks(index, number, std::move(call));
        break;
      }
    }
    return stream_.stream ? chunk(index, std::move(delta), nullptr, take_scores(choice)) : "";
  }

  // First the call's name, then its arguments.
  std::string call_chunks(size_t index, size_t number, Json call) {
    const Json arguments = std::exchange(call["function"]["arguments"], "");
    Json first = {{"index", number}};
    first.update(call);
    const Json rest = {{"index", number}, {"function", {{"arguments", arguments}}}};
    return chunk(index, {{"tool_calls", Json::array({first})}}, nullptr, nullptr) +
           chunk(index, {{"tool_calls", Json::array({rest})}}, nullptr, take_scores(choices_[index]));
  }

  Json with_choices(Json choices, bool chunk, Json usage) const {
    Json json = {{"id", id_},
                 {"object", chunk ? "chat.completion.chunk" : "chat.completion"},
                 {"created", created_},
                 {"model", name_},
                 {"choices", std::move(choices)}};
    if (!usage.is_null() || stream_.include_usage) json["usage"] = std::move(usage);
    return json;
  }

  std::string chunk(size_t index, Json delta, Json finish, Json scores) const {
    Json choice = {
        {"index", index}, {"delta", std::move(delta)}, {"logprobs", std::move(scores)}, {"finish_reason", std::move(finish)}};
    return event_text(with_choices(Json::array({std::move(choice)}), true, nullptr));
  }

  Json choice_json(size_t index) {
    Choice& choice = choices_[index];
    Json message = {{"role", "assistant"}, {"content", choice.content}};
    if (!choice.calls.empty()) {
      if (choice.content.empty()) message["content"] = nullptr;
      message["tool_calls"] = choice.calls;
    }
    if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
    return {{"index", index}, {"message", std::move(message)}, {"logprobs", take_scores(choice)}, {"finish_reason", choice.finish}};
  }

  const std::string name_, id_ = new_id("chatcmpl");
  const Tokenizer& tokenizer_;
  const StreamOptions stream_;
  const bool scores_;
  const std::time_t created_ = std::time(nullptr);
  std::vector<Choice> choices_;
  UsageCount usage_;
};

void read_scores(const JsonView& request, GenerationRequest& generation) {
  generation.log_probabilities = request.optional_boolean("logprobs").value_or(false);
  const auto top = request.optional_child("top_logprobs");
  if (top && !generation.log_probabilities) top->refuse("none without \"logprobs\": true");
  if (top) generation.top_log_probabilities = top->integer();
}

void read_length(const JsonView& request, GenerationRequest& generation) {
  const auto most = request.optional_child("max_completion_tokens");
  if (most && request.has("max_tokens")) most->refuse("either this or max_tokens");
  if (most) generation.max_tokens = static_cast<uint32_t>(most->integer(0, UINT32_MAX));
}

void chat(const Call& call) {
  const JsonView request = call.view();
  const auto model = call.model();
  GenerationRequest generation = read_generation(request, *model);
  read_length(request, generation);
  read_scores(request, generation);
  const StreamOptions stream = read_stream_options(request);
  const ToolChoice choice = read_tool_choice(request, /*nested=*/true);
  const Json tools = choice.use == ToolUse::kNone ? Json(nullptr) : read_tools(request, choice.use == ToolUse::kRequired);
  const Json messages = read_messages(request.child("messages")), variables = read_template_variables(request, *model);
  try {
    generation.prompt = model->language.encode_chat(messages, variables, tools);
  } catch (const Error& error) {
    throw ApiError(400, std::string("messages: ") + error.what(), "messages");
  }
  AnswerFormat format = answer_format(*model, generation.prompt, !tools.is_null());
  generation.constraint = read_form(request, *model);
  if (!tools.is_null() && generation.constraint)
    throw ApiError(400, "tools: a form of the answer leaves no room for calls", "tools", "unsupported_value");
  if (choice.use == ToolUse::kRequired) generation.constraint = call_constraint(tools, choice, format.tools, *model);
  if (generation.constraint) leave_no_room_for_reasoning(format);
  const size_t count = request.optional_integer("n").value_or(1);
  auto writer = std::make_unique<ChatWriter>(*model, stream, format, count, generation.log_probabilities);
  answer({.model = model,
          .choices = repeated(std::move(generation), count),
          .writer = std::move(writer),
          .stream = stream.stream,
          .prompt_field = "messages",
          .lease = call.lease},
         call.exchange, call.server.metrics());
}

}  // namespace

void add_chat_routes(Routes& routes) {
  routes.push_back({.method = "POST",
                    .path = "/v1/chat/completions",
                    .summary = "The next message of a conversation",
                    .fields = chat_fields(),
                    .answers = {"application/json", "text/event-stream"},
                    .needs_model = true,
                    .run = chat});
}

}  // namespace tritllm::server
