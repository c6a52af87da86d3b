#include "api/generator.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "core/json.h"
#include "io/model_location.h"
#include "server/api_error.h"
#include "server/fields.h"
#include "server/generation_fields.h"
#include "server/message_fields.h"
#include "server/messages.h"
#include "server/output_format.h"

namespace tritllm::api {
namespace {

using server::FieldTable;
using server::FieldType;
using server::ServedModel;

constexpr uint32_t kMostSlots = 256;
constexpr double kMostNumber = 4294967295.0;

// The server's errors name fields as its clients write them; these are the same names.
template <typename Read>
auto with_errors_of_fields(const Read& read) {
  try {
    return read();
  } catch (const server::ApiError& error) {
    std::string_view message = error.what();
    if (const std::string prefix = error.param() + ": "; message.starts_with(prefix)) message.remove_prefix(prefix.size());
    throw Error(ErrorCode::kUsage, error.param(), message);
  }
}

CacheType cache_type(const JsonView& options) {
  const std::string name = options.optional_text("cache").value_or("f16");
  if (const auto type = cache_type_named(name)) return *type;
  options.child("cache").refuse(fmt::format("{}", fmt::join(kCacheTypeNames, ", ")));
}

Arithmetic arithmetic(const JsonView& options) {
  const std::string name = options.optional_text("arithmetic").value_or("int8");
  if (name == "int8") return Arithmetic::kInteger;
  if (name == "f32") return Arithmetic::kFloat;
  options.child("arithmetic").refuse("int8 or f32");
}

FieldTable conversation_fields() {
  return {server::messages_field(),
          server::tools_field(/*nested=*/true),
          server::template_variables_field(),
          {"reasoning_effort", FieldType::kText, "A variable for the chat template.", 1, 20}};
}

FieldTable request_fields() {
  return server::joined(
      {{{"prompt", FieldType::kAny, "A text, or a list of tokens."},
        {"parse_special", FieldType::kBoolean, "Names of control tokens in the prompt become these tokens."}},
       conversation_fields(),
       server::generation_fields(),
       {{"logprobs", FieldType::kBoolean, "Log probabilities of the tokens of the answer."},
        {"top_logprobs", FieldType::kInteger, "With either: so many of the most probable tokens.", 0, kMostReportedProbabilities},
        {"prompt_logprobs", FieldType::kBoolean, "Log probabilities of the tokens of the prompt."},
        server::tool_choice_field(/*nested=*/true),
        server::format_field("response_format", /*nested=*/true)},
       server::form_fields()});
}

void refuse_fields_of_conversations(const JsonView& request) {
  for (const char* const name : {"tools", "tool_choice", "chat_template_kwargs", "reasoning_effort"}) {
    if (request.has(name)) request.child(name).refuse("none beside \"prompt\": it belongs to \"messages\"");
  }
}

std::vector<TokenId> tokens_of_list(const JsonView& prompt) {
  std::vector<TokenId> tokens;
  for (const JsonView& token : prompt.items()) tokens.push_back(static_cast<TokenId>(token.integer(0, UINT32_MAX)));
  return tokens;
}

std::vector<TokenId> tokens_of_prompt(const JsonView& request, const LanguageModel& model) {
  const JsonView prompt = request.child("prompt");
  const bool parse_special = request.boolean_or("parse_special", false);
  if (prompt.json().is_array()) {
    if (parse_special) request.child("parse_special").refuse("false, since the prompt is a list of tokens");
    return tokens_of_list(prompt);
  }
  if (!prompt.json().is_string()) prompt.refuse("a text, or a list of tokens");
  return model.encode(prompt.text(), parse_special);
}

void read_scores(const JsonView& request, GenerationRequest& generation) {
  generation.log_probabilities = request.boolean_or("logprobs", false);
  generation.prompt_log_probabilities = request.boolean_or("prompt_logprobs", false);
  const auto top = request.optional_child("top_logprobs");
  if (!top) return;
  generation.top_log_probabilities = top->integer();
  const bool scored = generation.log_probabilities || generation.prompt_log_probabilities;
  if (generation.top_log_probabilities > 0 && !scored) top->refuse("none without logprobs or prompt_logprobs");
}

struct Prepared {
  GenerationRequest generation;
  std::optional<server::AnswerFormat> format;
};

void prepare_chat(const JsonView& request, ServedModel& model, Prepared& prepared) {
  if (request.has("parse_special")) request.child("parse_special").refuse("none beside \"messages\"");
  const server::ToolChoice choice = server::read_tool_choice(request, /*nested=*/true);
  const Json tools =
      choice.use == server::ToolUse::kNone ? Json(nullptr) : server::read_tools(request, choice.use == server::ToolUse::kRequired);
  const Json messages = server::read_messages(request.child("messages"));
  prepared.generation.prompt = model.language.encode_chat(messages, server::read_template_variables(request, model), tools);
  prepared.format = server::answer_format(model, prepared.generation.prompt, !tools.is_null());
  if (!tools.is_null() && prepared.generation.constraint)
    request.child("tools").refuse("none beside a form of the answer, which leaves no room for calls");
  if (choice.use == server::ToolUse::kRequired)
    prepared.generation.constraint = server::call_constraint(tools, choice, prepared.format->tools, model);
  if (prepared.generation.constraint) server::leave_no_room_for_reasoning(*prepared.format);
}

Prepared prepare(const JsonView& request, ServedModel& model) {
  static const FieldTable fields = request_fields();
  server::check_fields(request.json(), fields);
  Prepared prepared{server::read_generation(request, model), {}};
  read_scores(request, prepared.generation);
  prepared.generation.constraint = server::read_form(request, model);
  if (request.has("messages")) {
    if (request.has("prompt")) request.child("prompt").refuse("either this or messages");
    prepare_chat(request, model, prepared);
  } else {
    refuse_fields_of_conversations(request);
    prepared.generation.prompt = tokens_of_prompt(request, model.language);
  }
  return prepared;
}

Json score_json(const TokenScore& score) {
  Json json = {{"token", score.token}, {"logprob", score.log_probability}};
  for (const TokenLogProbability& other : score.top)
    json["top"].push_back({{"token", other.token}, {"logprob", other.log_probability}});
  return json;
}

Json score_list(const std::vector<TokenScore>& scores) {
  Json list = Json::array();
  for (const TokenScore& score : scores) list.push_back(score_json(score));
  return list;
}

}  // namespace

GeneratorOptions read_generator_options(const Json& options) {
  static const FieldTable fields = {
      {"model", FieldType::kText, "Packed folder, Hugging Face folder or GGUF file.", 1, 4096, true},
      {"device", FieldType::kText, "cpu, cuda, cuda:N or auto.", 1, 100},
      {"arithmetic", FieldType::kText, "int8 or f32."},
      {"threads", FieldType::kInteger, "0: all processors.", 0, 4096},
      {"context", FieldType::kInteger, "Tokens of a sequence; 0: what the model was trained for, at most 8192.", 0, kMostNumber},
      {"slots", FieldType::kInteger, "Answers at a time.", 1, kMostSlots},
      {"cache", FieldType::kText, "f16, f32, fp8 or int8."},
      {"cache_tokens", FieldType::kInteger, "Tokens that the cache holds; 0: the context for each slot.", 0, 1e15}};
  return with_errors_of_fields([&] {
    server::check_fields(options, fields);
    const JsonView view(options, "");
    GeneratorOptions read;
    read.model = view.text("model");
    read.load.device = view.optional_text("device").value_or("auto");
    read.load.arithmetic = arithmetic(view);
    read.load.threads = static_cast<unsigned>(view.optional_integer("threads").value_or(0));
    read.load.context = static_cast<uint32_t>(view.optional_integer("context").value_or(0));
    read.engine.slots = static_cast<uint32_t>(view.optional_integer("slots").value_or(8));
    read.engine.cache = cache_type(view);
    read.engine.cache_tokens = view.optional_integer("cache_tokens").value_or(0);
    return read;
  });
}

void Answer::add(const GenerationEvent& event) {
  text += event.text;
  if (event.token) tokens.push_back(*event.token);
  if (event.score) scores.push_back(*event.score);
  if (!event.prompt_scores.empty()) prompt_scores = event.prompt_scores;
  finish = event.finish;
  error = event.error;
  prompt_tokens = event.prompt_tokens;
  reused_tokens = event.reused_tokens;
}

Json message_of(const Answer& answer) {
  server::AnswerParser parser(answer.format.value());
  std::vector<server::AnswerPart> parts = parser.push(answer.text);
  for (server::AnswerPart& part : parser.finish()) parts.push_back(std::move(part));
  std::string content, reasoning;
  Json calls = Json::array();
  for (const server::AnswerPart& part : parts) {
    switch (part.kind) {
      case server::AnswerPart::Kind::kContent: content += part.text; break;
      case server::AnswerPart::Kind::kReasoning: reasoning += part.text; break;
      case server::AnswerPart::Kind::kToolCall:
        calls.push_back(
            {{"id", server::new_id("call")}, {"type", "function"}, {"function", {{"name", part.name}, {"arguments", part.text}}}});
    }
  }
  Json message = {{"role", "assistant"}, {"content", content}};
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  return message;
}

Json to_json(const Answer& answer) {
  Json json = {{"text", answer.text}, {"tokens", answer.tokens}};
  json["finish_reason"] = answer.finish ? Json(finish_reason_name(*answer.finish)) : Json(nullptr);
  json["prompt_tokens"] = answer.prompt_tokens;
  json["reused_tokens"] = answer.reused_tokens;
  if (!answer.scores.empty()) json["logprobs"] = score_list(answer.scores);
  if (!answer.prompt_scores.empty()) json["prompt_logprobs"] = score_list(answer.prompt_scores);
  if (!answer.error.empty()) json["error"] = answer.error;
  if (answer.format) json["message"] = message_of(answer);
  return json;
}

Generation::Generation(std::shared_ptr<ServedModel> model, GenerationRequest request, std::optional<server::AnswerFormat> format)
    : model_(std::move(model)), id_(model_->engine.submit(std::move(request), events_)) {
  answer_.format = format;
}

std::optional<GenerationEvent> Generation::next(std::chrono::milliseconds time) {
  if (ended()) return std::nullopt;
  auto event = events_->pop(time);
  if (event) answer_.add(*event);
  return event;
}

void Generation::cancel() { model_->engine.cancel(id_); }

Generator::Generator(const GeneratorOptions& options)
    : path_(locate_model(options.model)),
      model_(std::make_shared<ServedModel>(path_.filename().string(), LanguageModel::load(path_, options.load), options.engine)) {}

std::unique_ptr<Generation> Generator::start(const Json& request) {
  return with_errors_of_fields([&] {
    Prepared prepared = prepare(JsonView(request, "request"), *model_);
    return std::make_unique<Generation>(model_, std::move(prepared.generation), prepared.format);
  });
}

std::vector<TokenId> Generator::encode_chat(const Json& request) const {
  static const FieldTable fields = conversation_fields();
  return with_errors_of_fields([&] {
    server::check_fields(request, fields);
    const JsonView view(request, "request");
    return model_->language.encode_chat(server::read_messages(view.child("messages")),
                                        server::read_template_variables(view, *model_),
                                        server::read_tools(view, /*constrained=*/false));
  });
}

Json Generator::facts() const {
  const LanguageModel& language = model_->language;
  return {{"model", path_.string()},
          {"device", language.model().backend().description()},
          {"context", model_->context()},
          {"vocabulary", language.tokenizer().vocabulary_size()},
          {"end_tokens", language.defaults().end_tokens},
          {"has_chat_template", language.has_chat_template()},
          {"weight_bytes_per_token", language.model().weight_bytes_per_token()},
          {"warnings", language.warnings()}};
}

}  // namespace tritllm::api
