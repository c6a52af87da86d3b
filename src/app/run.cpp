// Owns `tritllm run`: one prompt or several, answered once.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "app/model_options.h"
#include "app/progress_bar.h"
#include "core/error.h"
#include "engine/event_queue.h"
#include "engine/service.h"

namespace tritllm::app {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kMostSlots = 256;

struct Arguments {
  ModelArguments model;
  SamplingArguments sampling;
  TemplateArguments conversation;
  std::vector<std::string> prompts, stops;
  std::string file;
  uint32_t tokens = 512, slots = 8;
  size_t top_log_probabilities = 0;
  bool raw = false, parse_special = false, ignore_end = false, log_probabilities = false, prompt_log_probabilities = false;
};

struct Answer {
  SamplerOptions sampler;
  std::string text;
  std::vector<GenerationEvent> tokens;  // kept for --json alone
  GenerationEvent last;
  Clock::time_point first_token, end;

  bool has_begun() const noexcept { return first_token != Clock::time_point(); }
};

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

double rate(double tokens, double seconds) noexcept { return tokens > 0 && seconds > 0 ? tokens / seconds : 0; }

// An option that would change nothing is a mistake that the user should hear of.
void check(const Arguments& arguments) {
  const auto refuse = [](const char* option, const char* problem, const char* remedy) {
    throw Error(ErrorCode::kUsage, option, problem, remedy);
  };
  if (arguments.raw && !arguments.conversation.system.empty()) refuse("--system", "belongs to a conversation", "leave out --raw");
  if (arguments.raw && !arguments.conversation.variables.empty())
    refuse("--template-var", "belongs to the chat template", "leave out --raw");
  if (arguments.parse_special && !arguments.raw)
    refuse("--parse-special", "is for prompts that are read as they stand", "add --raw");
  const bool scores = arguments.log_probabilities || arguments.prompt_log_probabilities;
  if (scores && !arguments.model.common.json) refuse("--log-probabilities", "are part of the JSON answer", "add --json");
  if (arguments.top_log_probabilities > 0 && !scores)
    refuse("--top-log-probabilities", "belong to --log-probabilities or --prompt-log-probabilities", "add one of them");
}

std::string piped_prompt() {
  if (::isatty(STDIN_FILENO) != 0) return "";
  std::string text = read_text("-");
  if (text.ends_with('\n')) text.pop_back();  // of `echo`, as $(…) drops it
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

std::vector<std::string> prompts_of(const Arguments& arguments) {
  std::vector<std::string> prompts = arguments.prompts;
  if (!arguments.file.empty()) prompts.push_back(read_text(arguments.file));
  if (prompts.empty()) {
    if (std::string piped = piped_prompt(); !piped.empty()) prompts.push_back(std::move(piped));
  }
  if (prompts.empty()) throw Error(ErrorCode::kUsage, "run", "there is no prompt", "give -p TEXT or --file NAME, or pipe it in");
  if (prompts.size() > 1 && !arguments.model.common.json) {
    throw Error(ErrorCode::kUsage, "run", "several prompts were given", "add --json, so that their answers can be told apart");
  }
  return prompts;
}

std::vector<TokenId> encode_prompt(const LanguageModel& model, const Arguments& arguments, const std::string& prompt) {
  if (arguments.raw) return model.encode(prompt, arguments.parse_special);
  Json messages = Json::array();
  if (!arguments.conversation.system.empty()) messages.push_back({{"role", "system"}, {"content", arguments.conversation.system}});
  messages.push_back({{"role", "user"}, {"content", prompt}});
  return model.encode_chat(messages, template_variables(arguments.conversation, model));
}

void require_chat_template(const LanguageModel& model) {
  try {
    static_cast<void>(model.chat_templates().choose(/*with_tools=*/false));
  } catch (const Error& error) {
    throw Error(error.code(), error.where(), error.problem(), "add --raw to continue the prompt as it stands");
  }
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

Json score_json(const Tokenizer& tokenizer, const TokenScore& score) {
  Json json = {{"token", score.token}, {"text", tokenizer.token_bytes(score.token)}, {"log_probability", score.log_probability}};
  for (const TokenLogProbability& other : score.top) {
    json["top"].push_back(
        {{"token", other.token}, {"text", tokenizer.token_bytes(other.token)}, {"log_probability", other.log_probability}});
  }
  return json;
}

// Prompt tokens that were in the cache already were not computed.
Json speed_json(const Answer& answer, Clock::time_point begin) {
  const double generated = answer.last.generated_tokens;
  return {{"prompt_tokens_per_second",
           rate(answer.last.prompt_tokens - answer.last.reused_tokens, seconds_between(begin, answer.first_token))},
          {"tokens_per_second", rate(generated - 1, seconds_between(answer.first_token, answer.end))},
          {"seconds", seconds_between(begin, answer.end)}};
}

Json answer_json(const Tokenizer& tokenizer, const Arguments& arguments, const Answer& answer, Clock::time_point begin) {
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
  json["seed"] = answer.sampler.seed;
  json["sampler"] = to_json(answer.sampler);
  json["speed"] = speed_json(answer, begin);
  return json;
}

// Answers all prompts and shows how far it is.
class Run {
 public:
  Run(LanguageModel& model, const Arguments& arguments, size_t prompts)
      : model_(model),
        arguments_(arguments),
        service_(model, {.slots = std::min(arguments.slots, static_cast<uint32_t>(prompts)), .cache = cache_type(arguments.model)}),
        answers_(prompts),
        line_(prompts == 1 ? "reading the prompt" : "answering", arguments.model.common.quiet) {}

  void submit(size_t index, const std::string& prompt) {
    GenerationRequest request = request_for(model_, arguments_, prompt);
    answers_[index].sampler = request.sampler;
    prompt_tokens_ += request.prompt.size();
    requests_.push_back(std::move(request));
  }

  void run() {
    begin_ = Clock::now();
    const auto events = std::make_shared<EventQueue>();
    std::vector<RequestId> ids;
    for (GenerationRequest& request : requests_) ids.push_back(service_.submit(std::move(request), events));
    for (size_t left = ids.size(); left > 0;) {
      if (interrupted()) {
        for (const RequestId id : ids) service_.cancel(id);
      }
      show_progress();
      const auto event = events->pop(kStopInterval);
      if (!event) continue;
      take(answers_[static_cast<size_t>(std::ranges::find(ids, event->request) - ids.begin())], *event);
      if (event->finish) --left;
    }
    line_.clear();
  }

  const std::vector<Answer>& answers() const noexcept { return answers_; }
  Clock::time_point begin() const noexcept { return begin_; }

 private:
  void take(Answer& answer, const GenerationEvent& event) {
    if (!answer.has_begun()) answer.first_token = Clock::now();
    answer.end = Clock::now();
    answer.text += event.text;
    answer.last = event;
    if (arguments_.model.common.json) {
      answer.tokens.push_back(event);
    } else {
      line_.clear();
      at_terminal_ ? print(event.text) : print_exactly(event.text);
    }
  }

  void show_progress() {
    const auto done = std::ranges::count_if(answers_, [](const Answer& answer) { return answer.last.finish.has_value(); });
    if (answers_.size() > 1) {
      line_.show(static_cast<double>(done), static_cast<double>(answers_.size()),
                 fmt::format("{} of {} answers", done, answers_.size()));
    } else if (!answers_[0].has_begun()) {
      line_.show(static_cast<double>(service_.metrics().prompt_tokens), static_cast<double>(prompt_tokens_));
    }
  }

  LanguageModel& model_;
  const Arguments& arguments_;
  EngineService service_;
  std::vector<Answer> answers_;
  std::vector<GenerationRequest> requests_;
  WorkLine line_;
  bool at_terminal_ = ::isatty(STDOUT_FILENO) != 0;
  size_t prompt_tokens_ = 0;
  Clock::time_point begin_;
};

void report_cut(const Answer& answer, const Arguments& arguments, const LanguageModel& model) {
  if (answer.last.finish == FinishReason::kLength) {
    print_message(fmt::format("the answer was cut after {} tokens; --tokens allows more", arguments.tokens));
  } else if (answer.last.finish == FinishReason::kContext) {
    print_message(fmt::format("the answer was cut: prompt and answer fill the context of {} tokens; --context sets its size",
                              model.model().limits().positions));
  }
}

void report(const Run& run, const Arguments& arguments, const LanguageModel& model) {
  uint64_t prompt_tokens = 0, generated = 0;
  Clock::time_point first_token = Clock::time_point::max(), end = run.begin();
  for (const Answer& answer : run.answers()) {
    prompt_tokens += answer.last.prompt_tokens;
    generated += answer.last.generated_tokens;
    first_token = std::min(first_token, answer.first_token);
    end = std::max(end, answer.end);
    report_cut(answer, arguments, model);
  }
  const double later = static_cast<double>(generated) - static_cast<double>(run.answers().size());
  print_message(fmt::format("{}; {} prompt tokens at {:.1f}/s, {} tokens at {:.1f}/s", sampler_text(run.answers().back().sampler),
                            prompt_tokens, rate(static_cast<double>(prompt_tokens), seconds_between(run.begin(), first_token)),
                            generated, rate(later, seconds_between(first_token, end))));
}

int run(const Arguments& arguments) {
  check(arguments);
  const std::vector<std::string> prompts = prompts_of(arguments);
  LanguageModel model = load_model(arguments.model);
  if (!arguments.raw) require_chat_template(model);
  Run run(model, arguments, prompts.size());
  watch_interrupts();
  try {
    for (size_t i = 0; i < prompts.size(); ++i) run.submit(i, prompts[i]);
    run.run();
  } catch (const Error& error) {
    throw flag_error(error);
  }
  if (arguments.model.common.json) {
    Json all = Json::array();
    for (const Answer& answer : run.answers()) all.push_back(answer_json(model.tokenizer(), arguments, answer, run.begin()));
    print_json(prompts.size() == 1 ? all[0] : all);
  } else if (::isatty(STDOUT_FILENO) != 0) {
    print("\n");
  }
  if (!arguments.model.common.quiet) report(run, arguments, model);
  for (const Answer& answer : run.answers()) {
    if (answer.last.finish == FinishReason::kFailed) throw Error(ErrorCode::kBadInput, "generation", answer.last.error);
  }
  return interrupted() ? kInterruptedStatus : 0;
}

}  // namespace

RunCommand register_run(CLI::App& app) {
  auto* const command = app.add_subcommand("run", "Answer a prompt; the answer is all that goes to standard output");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("-p,--prompt", arguments->prompts, "The prompt; may be repeated with --json, the prompts are answered together")
      ->allow_extra_args(false);
  command->add_option("-f,--file", arguments->file,
                      "A file with the prompt; - is standard input, which is read anyway where it is a pipe");
  add_option(*command, "-n,--tokens", arguments->tokens, "At most this many tokens of answer", "TOKENS");
  add_template_options(*command, arguments->conversation);
  command->add_flag("--raw", arguments->raw, "Continue the prompt as it stands, without the model's chat template");
  command->add_flag("--parse-special", arguments->parse_special,
                    "With --raw: names of control tokens in the prompt become these tokens");
  command->add_option("--stop", arguments->stops, "Text at which the answer ends; may be repeated")->allow_extra_args(false);
  command->add_flag("--ignore-end", arguments->ignore_end, "Go on after the model's end tokens");
  add_option(*command, "--slots", arguments->slots, "This many prompts at a time", "SLOTS")->check(CLI::Range(1u, kMostSlots));
  command->add_flag("--log-probabilities", arguments->log_probabilities, "With --json: of each token of the answer");
  command->add_flag("--prompt-log-probabilities", arguments->prompt_log_probabilities, "With --json: of each token of the prompt");
  command->add_option("--top-log-probabilities", arguments->top_log_probabilities,
                      "With these: also this many of the most probable tokens");
  add_model_options(*command, arguments->model);
  add_sampling_options(*command, arguments->sampling);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
