// The route /v1/responses, without state: a request holds its whole conversation, and no answer is kept.
#include <fmt/format.h>

#include <ctime>
#include <utility>

#include "server/answer_parser.h"
#include "server/answering.h"
#include "server/api_error.h"
#include "server/api_server.h"
#include "server/generation_fields.h"
#include "server/message_fields.h"
#include "server/messages.h"
#include "server/openai_writer.h"
#include "server/output_format.h"
#include "server/response_input.h"

namespace tritllm::server {
namespace {

constexpr auto kOne = FieldUse::kOneValue;

FieldTable reasoning_fields() {
  return {{.name = "effort", .type = FieldType::kText, .help = "A variable for the chat template.", .least = 1, .most = 20}};
}

FieldTable text_fields() {
  return {format_field("format", /*nested=*/false), {.name = "verbosity", .use = kOne, .schema = R"("medium")"}};
}

FieldTable response_fields() {
  return joined({
      {{"model", FieldType::kText, "The model's name; without it, the first one.", 1, 1000},
       response_input_field(),
       {"instructions", FieldType::kText, "A system message before the conversation."},
       {"max_output_tokens", FieldType::kInteger, "Tokens of the answer at most.", 1, 4294967295.0},
       {"stream", FieldType::kBoolean, "The answer comes as server-sent events."},
       tools_field(/*nested=*/false),
       tool_choice_field(/*nested=*/false),
       {.name = "reasoning", .type = FieldType::kObject, .help = "How the model thinks.", .members = {reasoning_fields()}},
       {"parallel_tool_calls", FieldType::kBoolean, "", 0, 0, false, kOne, "true"},
       {"store", FieldType::kAny, "", 0, 0, false, kOne, "false"},
       {"background", FieldType::kAny, "", 0, 0, false, kOne, "false"},
       {"include", FieldType::kAny, "", 0, 0, false, kOne, "[]"},
       {"truncation", FieldType::kAny, "", 0, 0, false, kOne, R"("disabled")"},
       {.name = "text", .type = FieldType::kObject, .help = "The answer's text.", .members = {text_fields()}}},
      sampling_fields(),
      labels(),
  });
}

Json variables_of(const JsonView& request, const ServedModel& model) {
  Json fields = Json::object();
  if (const auto reasoning = request.optional_child("reasoning")) {
    if (const auto effort = reasoning->optional_text("effort")) fields["reasoning_effort"] = *effort;
  }
  return read_template_variables(JsonView(fields, kRequestPlace), model);
}

// What the answer repeats of its request.
Json echo_of(const JsonView& request, const SamplerOptions& sampler) {
  const auto or_null = [&](const char* name) { return request.has(name) ? request.child(name).json() : Json(nullptr); };
  return {{"instructions", or_null("instructions")},
          {"max_output_tokens", or_null("max_output_tokens")},
          {"parallel_tool_calls", true},
          {"previous_response_id", nullptr},
          {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
          {"store", false},
          {"temperature", sampler.temperature},
          {"top_p", sampler.top_p},
          {"text", request.has("text") ? request.child("text").json() : Json{{"format", {{"type", "text"}}}}},
          {"tool_choice", request.has("tool_choice") ? request.child("tool_choice").json() : Json("auto")},
          {"tools", request.has("tools") ? request.child("tools").json() : Json::array()},
          {"truncation", "disabled"},
          {"metadata", request.has("metadata") ? request.child("metadata").json() : Json::object()}};
}

class ResponseWriter final : public AnswerWriter {
 public:
  ResponseWriter(const ServedModel& model, const AnswerFormat& format, Json echo)
      : name_(model.name), echo_(std::move(echo)), parser_(format) {}

  // Events are numbered as they are made, so each is made in a statement of its own.
  std::string begin() override {
    std::string text = event("response.created", {{"response", response("in_progress")}});
    text += event("response.in_progress", {{"response", response("in_progress")}});
    return text;
  }

  // Builds the output and the events alike; a request that is not streamed throws the events away.
  std::string take(size_t, const GenerationEvent& news) override {
    last_ = {news.prompt_tokens, news.reused_tokens, news.generated_tokens, last_.reasoning};
    std::string text;
    for (const AnswerPart& part : parser_.push(news.text)) text += take_part(part);
    if (parser_.read_reasoning()) last_.reasoning = news.generated_tokens;
    if (!news.finish) return text;
    for (const AnswerPart& part : parser_.finish()) text += take_part(part);
    cut_ = openai_finish_reason(*news.finish) == "length";
    if (output_.empty() && open_.is_null()) text += open_text("message");
    return text += close_item();
  }

  std::string end() override {
    const char* const status = cut_ ? "incomplete" : "completed";
    return event(fmt::format("response.{}", status), {{"response", response(status)}});
  }
  std::string failed(const std::string& error_body) override {
    Json failure = response("failed");
    const Json error = parse_json(error_body, "error");
    failure["error"] = {{"code", "server_error"}, {"message", error["error"]["message"]}};
    return event("response.failed", {{"response", std::move(failure)}});
  }
  HttpResponse whole() override { return {.body = json_line(response(cut_ ? "incomplete" : "completed"))}; }

 private:
  std::string take_part(const AnswerPart& part) {
    std::string text;
    if (part.kind == AnswerPart::Kind::kToolCall) {
      text = close_item();
      return text += call_events(part);
    }
    const char* const type = part.kind == AnswerPart::Kind::kReasoning ? "reasoning" : "message";
    if (open_.is_null() || open_["type"] != type) {
      text = close_item();
      text += open_text(type);
    }
    text_ += part.text;
    Json delta = {{"item_id", open_["id"]}, {"output_index", output_.size()}, {"content_index", 0}, {"delta", part.text}};
    if (open_["type"] == "message") delta["logprobs"] = Json::array();  // OpenAI's client reads it
    text += event(fmt::format("response.{}.delta", text_type()), std::move(delta));
    return text;
  }

  std::string_view text_type() const { return open_["type"] == "message" ? "output_text" : "reasoning_text"; }

  Json text_part(const std::string& text) const {
    Json part = {{"type", text_type()}, {"text", text}};
    if (open_["type"] == "message") part.update({{"annotations", Json::array()}, {"logprobs", Json::array()}});
    return part;
  }

  std::string open_text(const char* type) {
    const bool message = std::string_view(type) == "message";
    open_ = {{"id", new_id(message ? "msg" : "rs")}, {"type", type}, {"status", "in_progress"}, {"content", Json::array()}};
    if (message) open_["role"] = "assistant";
    else open_["summary"] = Json::array();
    text_.clear();
    std::string text = event("response.output_item.added", {{"output_index", output_.size()}, {"item", open_}});
    text += event("response.content_part.added",
                  {{"item_id", open_["id"]}, {"output_index", output_.size()}, {"content_index", 0}, {"part", text_part("")}});
    return text;
  }

  std::string close_item() {
    if (open_.is_null()) return "";
    const Json place = {{"item_id", open_["id"]}, {"output_index", output_.size()}, {"content_index", 0}};
    Json text_done = place, part_done = place;
    text_done["text"] = text_;
    part_done["part"] = text_part(text_);
    std::string text = event(fmt::format("response.{}.done", text_type()), std::move(text_done));
    text += event("response.content_part.done", std::move(part_done));
    open_["content"].push_back(text_part(text_));
    open_["status"] = "completed";
    text += event("response.output_item.done", {{"output_index", output_.size()}, {"item", open_}});
    output_.push_back(std::exchange(open_, nullptr));
    return text;
  }

  std::string call_events(const AnswerPart& part) {
    Json item = {{"id", new_id("fc")}, {"type", "function_call"},   {"status", "in_progress"},
                 {"name", part.name},  {"call_id", new_id("call")}, {"arguments", ""}};
    const size_t index = output_.size();
    std::string text = event("response.output_item.added", {{"output_index", index}, {"item", item}});
    text +=
        event("response.function_call_arguments.delta", {{"item_id", item["id"]}, {"output_index", index}, {"delta", part.text}});
    text += event("response.function_call_arguments.done",
                  {{"item_id", item["id"]}, {"output_index", index}, {"name", part.name}, {"arguments", part.text}});
    item["status"] = "completed";
    item["arguments"] = part.text;
    text += event("response.output_item.done", {{"output_index", index}, {"item", item}});
    output_.push_back(std::move(item));
    return text;
  }

  std::string event(std::string_view type, const Json& fields) {
    Json json = {{"type", type}, {"sequence_number", sequence_++}};
    json.update(fields);
    return fmt::format("event: {}\n{}", type, event_text(json));
  }

  Json response(const char* status) const {
    Json json = {{"id", id_},        {"object", "response"}, {"created_at", created_}, {"status", status},
                 {"error", nullptr}, {"model", name_},       {"output", output_}};
    json["incomplete_details"] = cut_ ? Json{{"reason", "max_output_tokens"}} : Json(nullptr);
    json["usage"] = std::string_view(status) == "in_progress" ? Json(nullptr) : usage();
    json.update(echo_);
    return json;
  }

  Json usage() const {
    return {{"input_tokens", last_.prompt},
            {"input_tokens_details", {{"cached_tokens", last_.reused}}},
            {"output_tokens", last_.generated},
            {"output_tokens_details", {{"reasoning_tokens", last_.reasoning}}},
            {"total_tokens", uint64_t{last_.prompt} + last_.generated}};
  }

  struct Counts {
    uint32_t prompt = 0, reused = 0, generated = 0, reasoning = 0;
  };

  const std::string name_, id_ = new_id("resp");
  const std::time_t created_ = std::time(nullptr);
  const Json echo_;
  AnswerParser parser_;
  Json output_ = Json::array();
  Json open_;         // the item that grows; null: none
  std::string text_;  // its text so far
  Counts last_;
  bool cut_ = false;
  uint64_t sequence_ = 0;
};

void read_form(const JsonView& request, ServedModel& model, GenerationRequest& generation) {
  const auto text = request.optional_child("text");
  if (!text) return;
  if (const auto format = text->optional_child("format")) generation.constraint = read_format(*format, /*nested=*/false, model);
}

void respond(const Call& call) {
  const JsonView request = call.view();
  const auto model = call.model();
  GenerationRequest generation = read_generation(request, *model);
  if (const auto most = request.optional_integer("max_output_tokens", 1, UINT32_MAX))
    generation.max_tokens = static_cast<uint32_t>(*most);
  const ToolChoice choice = read_tool_choice(request, /*nested=*/false);
  const Json tools = choice.use == ToolUse::kNone ? Json(nullptr) : read_flat_tools(request, choice.use == ToolUse::kRequired);
  const Json messages = read_response_input(request), variables = variables_of(request, *model);
  try {
    generation.prompt = model->language.encode_chat(messages, variables, tools);
  } catch (const Error& error) {
    throw ApiError(400, std::string("input: ") + error.what(), "input");
  }
  AnswerFormat format = answer_format(*model, generation.prompt, !tools.is_null());
  read_form(request, *model, generation);
  if (!tools.is_null() && generation.constraint)
    request.child("text").refuse("no form beside tools, since it leaves no room for calls");
  if (choice.use == ToolUse::kRequired) generation.constraint = call_constraint(tools, choice, format.tools, *model);
  if (generation.constraint) leave_no_room_for_reasoning(format);
  auto writer = std::make_unique<ResponseWriter>(*model, format, echo_of(request, generation.sampler));
  std::vector<GenerationRequest> choices;
  choices.push_back(std::move(generation));
  answer({.model = model,
          .choices = std::move(choices),
          .writer = std::move(writer),
          .stream = request.optional_boolean("stream").value_or(false),
          .prompt_field = "input",
          .lease = call.lease},
         call.exchange, call.server.metrics());
}

}  // namespace

void add_response_routes(Routes& routes) {
  routes.push_back({.method = "POST",
                    .path = "/v1/responses",
                    .summary = "The next items of a conversation; nothing is stored",
                    .fields = response_fields(),
                    .answers = {"application/json", "text/event-stream"},
                    .needs_model = true,
                    .run = respond});
}

}  // namespace tritllm::server
