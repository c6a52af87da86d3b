// The routes of Ollama that desktop programs speak: /api/chat, /api/generate, /api/tags, /api/version. Translations into the same
// requests as everywhere; times are in nanoseconds, as there.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
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

namespace tritllm::server {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kNoEffect = FieldUse::kWithoutEffect;

struct OptionName {
  std::string_view ollama, own;
};
constexpr std::array<OptionName, 2> kOptionNames{{{"num_predict", "max_tokens"}, {"repeat_last_n", "penalty_window"}}};

std::string_view own_name(std::string_view option) {
  const auto found = std::ranges::find(kOptionNames, option, &OptionName::ollama);
  return found == kOptionNames.end() ? option : found->own;
}

FieldTable option_fields() {
  FieldTable table = generation_fields();
  for (const auto& [ollama, own] : kOptionNames) std::ranges::find(table, own, &RequestField::name)->name = ollama;
  std::ranges::find(table, "num_predict", &RequestField::name)->least = -1;  // no limit
  table.push_back({"num_ctx", FieldType::kInteger, "At most the context that the model has here.", 1, 4294967295.0});
  // How Ollama spreads its work over a machine.
  for (const char* const name : {"num_thread", "num_gpu", "main_gpu", "num_batch", "use_mmap", "low_vram", "numa"})
    table.push_back({.name = name, .use = kNoEffect});
  return table;
}

FieldTable common_fields() {
  return {{"model", FieldType::kText, "The model's name.", 1, 1000, true},
          {"stream", FieldType::kBoolean, "A line of JSON for each piece; true by default."},
          {.name = "options", .type = FieldType::kObject, .help = "How the answer is written.", .members = {option_fields()}},
          {"format", FieldType::kAny, "\"json\", or a JSON schema that the answer satisfies.", 0, 0, false, FieldUse::kUsed,
           R"({"anyOf": [{"enum": ["json", ""]}, {"type": "object"}]})"},
          {"keep_alive", FieldType::kAny, "", 0, 0, false, kNoEffect},
          {"think", FieldType::kBoolean, "enable_thinking of the chat template."}};
}

RequestField ollama_messages_field() {
  FieldTable message = {
      {.name = "role", .type = FieldType::kText, .required = true, .words = {"system", "user", "assistant", "tool"}},
      {.name = "content", .type = FieldType::kText},
      {.name = "thinking", .type = FieldType::kText, .help = "What the assistant thought."},
      {.name = "images", .use = FieldUse::kOneValue, .schema = "[]"},
      tool_calls_field(),
      {.name = "tool_name", .type = FieldType::kText, .help = "The function that a tool's message answers."},
      {.name = "tool_call_id", .type = FieldType::kText, .help = "The call that it answers."}};
  return {.name = "messages",
          .type = FieldType::kArray,
          .help = "The conversation.",
          .least = 1,
          .most = kMostMessages,
          .required = true,
          .members = {std::move(message)}};
}

// The options as fields of read_generation().
Json flat_options(const JsonView& request, const ServedModel& model) {
  Json flat = Json::object();
  const auto options = request.optional_child("options");
  if (!options) return flat;
  static_cast<void>(options->optional_integer("num_ctx", 1, model.context()));  // the context is what it is
  for (const auto& [name, value] : options->members()) {
    if (name == "num_predict" && value.json() == -1) continue;
    flat[std::string(own_name(name))] = value.json();
  }
  return flat;
}

std::string time_text(std::time_t time) { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(time)); }

// One of both routes; they differ in where the text stands.
class OllamaWriter final : public AnswerWriter {
 public:
  OllamaWriter(const ServedModel& model, const AnswerFormat& format, bool chat, bool stream)
      : name_(model.name), parser_(format), chat_(chat), stream_(stream) {}

  HttpResponse stream_head() const override {
    return {.content_type = "application/x-ndjson", .fields = {{"Cache-Control", "no-store"}}};
  }

  std::string take(size_t, const GenerationEvent& event) override {
    if (first_token_ == Clock::time_point()) first_token_ = Clock::now();
    last_ = {event.prompt_tokens, event.generated_tokens};
    std::vector<AnswerPart> parts = parser_.push(event.text);
    if (event.finish) {
      for (AnswerPart& part : parser_.finish()) parts.push_back(std::move(part));
      reason_ = openai_finish_reason(*event.finish);
    }
    std::string text;
    for (const AnswerPart& part : parts) text += take_part(part);
    return text;
  }

  std::string end() override { return json_line(line("", "", Json::array(), true)) + "\n"; }
  std::string failed(const std::string& error_body) override {
    return json_line({{"error", parse_json(error_body, "error")["error"]["message"]}}) + "\n";
  }
  HttpResponse whole() override { return {.body = json_line(line(content_, thinking_, calls_, true))}; }

 private:
  std::string take_part(const AnswerPart& part) {
    Json calls = Json::array();
    if (part.kind == AnswerPart::Kind::kToolCall) calls.push_back(call_json(part));
    const bool content = part.kind == AnswerPart::Kind::kContent, thinking = part.kind == AnswerPart::Kind::kReasoning;
    if (stream_) return json_line(line(content ? part.text : "", thinking ? part.text : "", calls, false)) + "\n";
    if (content) content_ += part.text;
    if (thinking) thinking_ += part.text;
    for (Json& call : calls) calls_.push_back(std::move(call));
    return "";
  }

  static Json call_json(const AnswerPart& part) {
    Json arguments;
    try {
      arguments = parse_json(part.text, "arguments");
    } catch (const Error&) {
      arguments = part.text;
    }
    return {{"function", {{"name", part.name}, {"arguments", std::move(arguments)}}}};
  }

  Json line(const std::string& content, const std::string& thinking, const Json& calls, bool done) const {
    Json json = {{"model", name_}, {"created_at", time_text(std::time(nullptr))}};
    Json& holder = chat_ ? json["message"] = {{"role", "assistant"}, {"content", content}} : json;
    if (!chat_) json["response"] = content;
    if (!thinking.empty()) holder["thinking"] = thinking;
    if (!calls.empty()) holder["tool_calls"] = calls;
    json["done"] = done;
    if (done) add_end(json);
    return json;
  }

  void add_end(Json& json) const {
    const auto nanoseconds = [](Clock::time_point from, Clock::time_point to) {
      return std::chrono::duration_cast<std::chrono::nanoseconds>(to - from).count();
    };
    const auto now = Clock::now();
    json.update({{"done_reason", reason_},
                 {"total_duration", nanoseconds(begin_, now)},
                 {"load_duration", 0},
                 {"prompt_eval_count", last_.prompt},
                 {"prompt_eval_duration", nanoseconds(begin_, first_token_)},
                 {"eval_count", last_.generated},
                 {"eval_duration", nanoseconds(first_token_, now)}});
  }

  struct Counts {
    uint32_t prompt = 0, generated = 0;
  };

  const std::string name_;
  AnswerParser parser_;
  const bool chat_, stream_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point first_token_;
  Counts last_;
  std::string content_, thinking_;
  std::string_view reason_ = "stop";
  Json calls_ = Json::array();
};

// Messages in OpenAI's shape: here a call has no id.
Json openai_messages(const JsonView& messages) {
  Json all = Json::array();
  for (const JsonView& message : messages.items()) {
    Json copy = Json::object();
    for (const auto& [name, value] : message.members()) {
      if (name == "thinking") copy["reasoning_content"] = value.json();
      else if (name == "tool_name") copy["name"] = value.json();
      else if (name != "images") copy[name] = value.json();
    }
    all.push_back(std::move(copy));
  }
  return read_messages(JsonView(all, std::string(kRequestPlace) + ": /messages"));
}

Json variables_of(const JsonView& request, const ServedModel& model) {
  const auto think = request.optional_boolean("think");
  if (!think) return Json::object();
  const Json fields = {{"chat_template_kwargs", {{"enable_thinking", *think}}}};
  return read_template_variables(JsonView(fields, kRequestPlace), model);
}

void run(const Call& call, ModelUse model, GenerationRequest generation, AnswerFormat format, bool chat) {
  const bool stream = call.view().optional_boolean("stream").value_or(true);
  const auto form = call.view().optional_child("format");
  const bool has_form = form && !(form->json().is_string() && form->json().get_ref<const std::string&>().empty());
  if (has_form) {
    if (format.tools != ToolFormat::kNone) form->refuse("no form beside tools, since it leaves no room for calls");
    generation.constraint = read_plain_format(*form, *model);
    leave_no_room_for_reasoning(format);
  }
  auto writer = std::make_unique<OllamaWriter>(*model, format, chat, stream);
  std::vector<GenerationRequest> choices;
  choices.push_back(std::move(generation));
  answer({.model = std::move(model),
          .choices = std::move(choices),
          .writer = std::move(writer),
          .stream = stream,
          .prompt_field = chat ? "messages" : "prompt",
          .lease = call.lease},
         call.exchange, call.server.metrics());
}

void chat(const Call& call) {
  const JsonView request = call.view();
  const auto model = call.model();
  const Json options = flat_options(request, *model);
  GenerationRequest generation = read_generation(JsonView(options, kRequestPlace), *model);
  const Json tools = read_tools(request, /*constrained=*/false);
  generation.prompt = model->language.encode_chat(openai_messages(request.child("messages")), variables_of(request, *model), tools);
  const AnswerFormat format = answer_format(*model, generation.prompt, !tools.is_null());
  run(call, model, std::move(generation), format, /*chat=*/true);
}

void generate(const Call& call) {
  const JsonView request = call.view();
  const auto model = call.model();
  const Json options = flat_options(request, *model);
  GenerationRequest generation = read_generation(JsonView(options, kRequestPlace), *model);
  if (request.optional_boolean("raw").value_or(false)) {
    if (request.has("system")) request.child("system").refuse("no such field with \"raw\": true");
    generation.prompt = model->language.encode(request.text("prompt"), /*parse_special=*/true);
    return run(call, model, std::move(generation), {}, /*chat=*/false);
  }
  Json messages = Json::array();
  if (const auto system = request.optional_text("system")) messages.push_back({{"role", "system"}, {"content", *system}});
  messages.push_back({{"role", "user"}, {"content", request.text("prompt")}});
  generation.prompt = model->language.encode_chat(messages, variables_of(request, *model));
  const AnswerFormat format = answer_format(*model, generation.prompt, /*with_tools=*/false);
  run(call, model, std::move(generation), format, /*chat=*/false);
}

void tags(const Call& call) {
  Json models = Json::array();
  for (const ModelState& state : call.server.models().states()) {
    models.push_back(
        {{"name", state.name},
         {"model", state.name},
         {"modified_at", time_text(state.since)},
         {"size", state.facts["stored_bytes"]},
         {"digest", ""},
         {"details",
          {{"format", "tritllm"}, {"family", state.facts["architecture"]}, {"quantization_level", state.facts["recipe"]}}}});
  }
  call.respond({{"models", std::move(models)}});
}

void version(const Call& call) { call.respond({{"version", TRITLLM_VERSION}}); }

}  // namespace

void add_ollama_routes(Routes& routes) {
  routes.push_back({.method = "POST",
                    .path = "/api/chat",
                    .summary = "Ollama's chat",
                    .fields = joined({{ollama_messages_field(), tools_field(/*nested=*/true)}, common_fields()}),
                    .answers = {"application/json", "application/x-ndjson"},
                    .needs_model = true,
                    .run = chat});
  routes.push_back({.method = "POST",
                    .path = "/api/generate",
                    .summary = "Ollama's answer to one prompt",
                    .fields = joined({{{"prompt", FieldType::kText, "The prompt.", 0, 0, true},
                                       {"system", FieldType::kText, "A system message before it."},
                                       {"raw", FieldType::kBoolean, "The prompt is continued as it stands."}},
                                      common_fields()}),
                    .answers = {"application/json", "application/x-ndjson"},
                    .needs_model = true,
                    .run = generate});
  routes.push_back({.method = "GET", .path = "/api/tags", .summary = "Ollama's list of models", .run = tags});
  routes.push_back({.method = "GET", .path = "/api/version", .summary = "The program's version", .run = version});
}

}  // namespace tritllm::server
