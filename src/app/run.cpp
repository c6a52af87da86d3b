// Owns `tritllm run`: one prompt or several, answered once.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "app/model_options.h"
#include "core/error.h"
#include "engine/engine.h"

namespace tritllm::app {
namespace {

constexpr uint32_t kMostSlots = 256;

struct Arguments {
  ModelArguments model;
  SamplingArguments sampling;
  std::vector<std::string> prompts, stops;
  std::string file, system;
  uint32_t tokens = 512, slots = 8;
  size_t top_log_probabilities = 0;
  bool raw = false, ignore_end = false, log_probabilities = false, prompt_log_probabilities = false;
};

struct Answer {
  std::string text;
  std::vector<GenerationEvent> tokens;
  GenerationEvent last;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<TokenId> encode_prompt(const LanguageModel& model, const Arguments& arguments, const std::string& prompt) {
  if (arguments.raw || (!model.has_chat_template() && arguments.system.empty())) return model.encode(prompt);
  Json messages = Json::array();
  if (!arguments.system.empty()) messages.push_back({{"role", "system"}, {"content", arguments.system}});
  messages.push_back({{"role", "user"}, {"content", prompt}});
  return model.encode_chat(messages);
}

Json score_json(const Tokenizer& tokenizer, const TokenScore& score) {
  Json json = {{"token", score.token}, {"text", tokenizer.token_bytes(score.token)}, {"log_probability", score.log_probability}};
  for (const TokenLogProbability& other : score.top) {
    json["top"].push_back(
        {{"token", other.token}, {"text", tokenizer.token_bytes(other.token)}, {"log_probability", other.log_probability}});
  }
  return json;
}

Json answer_json(const Tokenizer& tokenizer, const Arguments& arguments, const Answer& answer) {
  Json json = {{"text", answer.text},
               {"finish_reason", finish_reason_name(*answer.last.finish)},
               {"prompt_tokens", answer.last.prompt_tokens},
               {"generated_tokens", answer.last.generated_tokens}};
  Json ids = Json::array(), scores = Json::array(), prompt_scores = Json::array();
  for (const GenerationEvent& event : answer.tokens) {
    if (event.token) ids.push_back(*event.token);
    if (event.score) scores.push_back(score_json(tokenizer, *event.score));
    for (const TokenScore& score : event.prompt_scores) prompt_scores.push_back(score_json(tokenizer, score));
  }
  json["tokens"] = ids;
  if (arguments.log_probabilities) json["log_probabilities"] = scores;
  if (arguments.prompt_log_probabilities) json["prompt_log_probabilities"] = prompt_scores;
  if (!answer.last.error.empty()) json["error"] = answer.last.error;
  return json;
}

GenerationRequest request_for(const LanguageModel& model, const Arguments& arguments, const std::string& prompt) {
  GenerationRequest request;
  request.prompt = encode_prompt(model, arguments, prompt);
  request.sampler = sampler_options(arguments.sampling, model.defaults());
  request.max_tokens = arguments.tokens;
  request.stops = arguments.stops;
  request.ignore_end_tokens = arguments.ignore_end;
  request.log_probabilities = arguments.log_probabilities;
  request.prompt_log_probabilities = arguments.prompt_log_probabilities;
  request.top_log_probabilities = arguments.top_log_probabilities;
  return request;
}

std::vector<std::string> prompts_of(const Arguments& arguments) {
  std::vector<std::string> prompts = arguments.prompts;
  if (!arguments.file.empty()) prompts.push_back(read_text(arguments.file));
  if (prompts.empty())
    throw Error(ErrorCode::kUsage, "run", "there is no prompt", "give -p TEXT, or --file NAME (- for standard input)");
  if (prompts.size() > 1 && !arguments.model.common.json) {
    throw Error(ErrorCode::kUsage, "run", "several prompts were given", "add --json, so that their answers can be told apart");
  }
  return prompts;
}

int run(const Arguments& arguments) {
  const std::vector<std::string> prompts = prompts_of(arguments);
  LanguageModel model = load_model(arguments.model);
  const bool json = arguments.model.common.json, quiet = arguments.model.common.quiet;
  Engine engine(model.model(), model.tokenizer(), model.defaults().end_tokens,
                {.slots = std::min(arguments.slots, static_cast<uint32_t>(prompts.size())), .cache = cache_type(arguments.model)});
  std::vector<Answer> answers(prompts.size());
  std::vector<RequestId> ids;
  std::string sampling;
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now(), first_token{};
  for (size_t i = 0; i < prompts.size(); ++i) {
    const GenerationRequest request = request_for(model, arguments, prompts[i]);
    sampling = sampler_text(request.sampler);
    ids.push_back(engine.submit(request, [&, i](const GenerationEvent& event) {
      if (first_token == std::chrono::steady_clock::time_point()) first_token = std::chrono::steady_clock::now();
      if (!json) print(event.text);
      answers[i].text += event.text;
      if (json) answers[i].tokens.push_back(event);
      answers[i].last = event;
    }));
  }
  watch_interrupts();
  while (engine.step()) {
    if (!interrupted()) continue;
    for (const RequestId id : ids) engine.cancel(id);
  }
  const double total = seconds_since(begin), answering = seconds_since(first_token);
  if (json) {
    Json all = Json::array();
    for (const Answer& answer : answers) all.push_back(answer_json(model.tokenizer(), arguments, answer));
    print_json(prompts.size() == 1 ? all[0] : all);
  } else if (::isatty(STDOUT_FILENO) != 0) {
    print("\n");
  }
  uint64_t prompt_tokens = 0, generated = 0;
  for (const Answer& answer : answers) {
    prompt_tokens += answer.last.prompt_tokens;
    generated += answer.last.generated_tokens;
  }
  if (!quiet) {
    print_message(fmt::format("{}; {} prompt tokens at {:.1f}/s, {} tokens at {:.1f}/s", sampling, prompt_tokens,
                              static_cast<double>(prompt_tokens) / (total - answering), generated,
                              generated > answers.size() ? static_cast<double>(generated - answers.size()) / answering : 0.0));
  }
  for (const Answer& answer : answers) {
    if (answer.last.finish == FinishReason::kFailed) throw Error(ErrorCode::kBadInput, "generation", answer.last.error);
  }
  return 0;
}

}  // namespace

RunCommand register_run(CLI::App& app) {
  auto* const command = app.add_subcommand("run", "Answer a prompt; the answer is all that goes to standard output");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("-p,--prompt", arguments->prompts, "The prompt; several, with --json, are answered together");
  command->add_option("-f,--file", arguments->file, "A file with the prompt; - is standard input");
  add_option(*command, "-n,--tokens", arguments->tokens, "At most so many tokens of answer", "TOKENS");
  command->add_option("--system", arguments->system, "A system message before the prompt")->envname("TRITLLM_SYSTEM");
  command->add_flag("--raw", arguments->raw, "Continue the prompt as it stands, without the model's chat template")
      ->envname("TRITLLM_RAW");
  command->add_option("--stop", arguments->stops, "Text at which the answer ends; may be repeated");
  command->add_flag("--ignore-end", arguments->ignore_end, "Go on after the model's end tokens")->envname("TRITLLM_IGNORE_END");
  add_option(*command, "--slots", arguments->slots, "So many prompts at a time", "SLOTS")->check(CLI::Range(1u, kMostSlots));
  command->add_flag("--log-probabilities", arguments->log_probabilities, "With --json: of each token of the answer");
  command->add_flag("--prompt-log-probabilities", arguments->prompt_log_probabilities, "With --json: of each token of the prompt");
  command->add_option("--top-log-probabilities", arguments->top_log_probabilities, "With these, so many other tokens each");
  add_model_options(*command, arguments->model);
  add_sampling_options(*command, arguments->sampling);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
