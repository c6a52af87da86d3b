// The route /v1/completions: a text is continued as it stands. Names of control tokens in it are these tokens, since programs write
// whole conversations here by themselves.
#include <fmt/format.h>

#include <ctime>
#include <utility>

#include "server/answering.h"
#include "server/api_error.h"
#include "server/api_server.h"
#include "server/generation_fields.h"
#include "server/log_probabilities.h"
#include "server/openai_writer.h"
#include "server/output_format.h"
#include "server/prompts.h"

namespace tritllm::server {
namespace {

constexpr uint32_t kUsualTokens = 16;  // as OpenAI has it

FieldTable completion_fields() {
  return joined({
      {{"model", FieldType::kText, "The model's name; without it, the first one.", 1, 1000},
       prompts_field("prompt"),
       add_special_field()},
      generation_fields(),
      {{"stream", FieldType::kBoolean, "The answer comes as server-sent events."},
       stream_options_field(),
       {"n", FieldType::kInteger, "How many answers to write to each prompt.", 1, kMostChoices},
       {"best_of", FieldType::kAny, "", 0, 0, false, FieldUse::kOneValue, "1"},
       {"echo", FieldType::kBoolean, "The answer begins with the prompt."},
       {"logprobs", FieldType::kInteger,
        "Log probabilities, with so many of the most probable tokens; with echo, of the prompt too.", 0, 20}},
      form_fields(),
      labels(),
  });
}

struct CompletionOptions {
  size_t per_prompt = 1;
  bool echo = false, scores = false;
  size_t top = 0;
};

class CompletionWriter final : public AnswerWriter {
 public:
  CompletionWriter(const ServedModel& model, const StreamOptions& stream, const CompletionOptions& options,
                   std::vector<Prompt> prompts)
      : name_(model.name),
        stream_(stream),
        options_(options),
        prompts_(std::move(prompts)),
        usage_(prompts_.size() * options.per_prompt, options.per_prompt) {
    for (size_t i = 0; i < prompts_.size() * options.per_prompt; ++i) choices_.emplace_back(model.tokenizer(), options.top);
  }

  std::string take(size_t index, const GenerationEvent& event) override {
    Choice& choice = choices_[index];
    usage_.note(index, event);
    std::string text = std::exchange(choice.begun, true) ? "" : begin_choice(index, event);
    text += event.text;
    if (event.score && event.finish != FinishReason::kEndToken) choice.scores.add(*event.score);
    if (event.finish) choice.finish = openai_finish_reason(*event.finish);
    if (!stream_.stream) {
      choice.text += text;
      return "";
    }
    if (text.empty() && !event.finish) return "";
    return event_text(with_choices(Json::array({choice_json(index, text)}), nullptr));
  }

  std::string end() override { return stream_end(stream_, with_choices(Json::array(), usage_.json())); }
  std::string failed(const std::string& error_body) override { return "data: " + error_body + "\n\n"; }

  HttpResponse whole() override {
    Json choices = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i) choices.push_back(choice_json(i, choices_[i].text));
    return {.body = json_line(with_choices(std::move(choices), usage_.json()))};
  }

 private:
  struct Choice {
    Choice(const Tokenizer& tokenizer, size_t top) : scores(tokenizer, top) {}
    std::string text;
    Json finish;
    CompletionScores scores;
    bool begun = false;
  };

  // What an answer begins with where the prompt is part of it.
  std::string begin_choice(size_t index, const GenerationEvent& event) {
    if (!options_.echo) return "";
    const Prompt& prompt = prompts_[index / options_.per_prompt];
    if (options_.scores) {
      choices_[index].scores.add_first(prompt.tokens.front());
      for (const TokenScore& score : event.prompt_scores) choices_[index].scores.add(score);
    }
    return prompt.text;
  }

  Json choice_json(size_t index, const std::string& text) {
    Choice& choice = choices_[index];
    return {{"index", index},
            {"text", text},
            {"logprobs", options_.scores ? choice.scores.take() : Json(nullptr)},
            {"finish_reason", choice.finish}};
  }

  Json with_choices(Json choices, Json usage) const {
    Json json = {
        {"id", id_}, {"object", "text_completion"}, {"created", created_}, {"model", name_}, {"choices", std::move(choices)}};
    if (!usage.is_null() || stream_.include_usage) json["usage"] = std::move(usage);
    return json;
  }

  const std::string name_, id_ = new_id("cmpl");
  const StreamOptions stream_;
  const CompletionOptions options_;
  const std::vector<Prompt> prompts_;
  const std::time_t created_ = std::time(nullptr);
  std::vector<Choice> choices_;
  UsageCount usage_;
};

std::vector<GenerationRequest> requests_for(const std::vector<Prompt>& prompts, const GenerationRequest& common,
                                            size_t per_prompt) {
  std::vector<GenerationRequest> requests;
  for (const Prompt& prompt : prompts) {
    GenerationRequest request = common;
    request.prompt = prompt.tokens;
    if (request.constraint) request.constraint = request.constraint->fresh();
    for (GenerationRequest& one : repeated(std::move(request), per_prompt)) requests.push_back(std::move(one));
  }
  return requests;
}

void complete(const Call& call) {
  const JsonView request = call.view();
  const auto model = call.model();
  GenerationRequest common = read_generation(request, *model);
  if (!request.has("max_tokens")) common.max_tokens = kUsualTokens;
  common.constraint = read_form(request, *model);
  CompletionOptions options{.per_prompt = request.optional_integer("n").value_or(1),
                            .echo = request.optional_boolean("echo").value_or(false),
                            .scores = request.has("logprobs"),
                            .top = request.optional_integer("logprobs").value_or(0)};
  common.log_probabilities = options.scores;
  common.prompt_log_probabilities = options.scores && options.echo;
  common.top_log_probabilities = options.top;
  const StreamOptions stream = read_stream_options(request);
  auto prompts = read_prompts(request.child("prompt"), *model, request.optional_boolean("add_special_tokens").value_or(true));
  // Before they are copied: a thousand prompts of 64 answers each are refused in any case.
  if (const size_t asked = prompts.size() * options.per_prompt; asked > model->options.queued) {
    throw ApiError(400, fmt::format("the request asks for {} answers; the queue holds {}", asked, model->options.queued),
                   prompts.size() > 1 ? "prompt" : "n");
  }
  auto choices = requests_for(prompts, common, options.per_prompt);
  auto writer = std::make_unique<CompletionWriter>(*model, stream, options, std::move(prompts));
  answer({.model = model, .choices = std::move(choices), .writer = std::move(writer), .stream = stream.stream, .lease = call.lease},
         call.exchange, call.server.metrics());
}

}  // namespace

void add_completion_routes(Routes& routes) {
  routes.push_back({.method = "POST",
                    .path = "/v1/completions",
                    .summary = "A text is continued",
                    .fields = completion_fields(),
                    .answers = {"application/json", "text/event-stream"},
                    .needs_model = true,
                    .run = complete});
}

}  // namespace tritllm::server
