// Owns `tritllm chat`: its options, and the console on both sides of a dialogue (chat_dialogue.h).
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "app/chat_dialogue.h"
#include "app/chat_input.h"
#include "app/line_editor.h"
#include "app/model_options.h"
#include "core/error.h"

namespace tritllm::app {
namespace {

struct Arguments {
  ModelArguments model;
  SamplingArguments sampling;
  TemplateArguments conversation;
  uint32_t tokens = 0;
  bool no_history = false;
};

// A history that cannot be read or written is reported once; then the chat goes on without.
class OptionalHistory {
 public:
  OptionalHistory(bool wanted, LineEditor& editor) : editor_(editor) {
    const auto path = wanted ? InputHistory::usual_path() : std::nullopt;
    if (!path) return;
    guarded([&] {
      history_.emplace(*path);
      for (const std::string& entry : history_->entries()) editor_.remember(entry);
    });
  }

  void add(const std::string& input) {
    if (input.find_first_not_of(" \t") == input.npos) return;
    editor_.remember(input);
    if (history_) guarded([&] { history_->add(input); });
  }

 private:
  template <typename Work>
  void guarded(const Work& work) {
    try {
      work();
    } catch (const Error& error) {
      print_message(fmt::format("warning: no history is kept: {}", printable(error.what())));
      history_.reset();
    }
  }

  LineEditor& editor_;
  std::optional<InputHistory> history_;
};

// A person at a terminal: errors are shown, and the dialogue goes on.
void chat_at_terminal(ChatSession& session, const Arguments& arguments) {
  TerminalSignals signals;
  LineEditor editor(signals);
  OptionalHistory history(!arguments.no_history, editor);
  ChatDialogue dialogue(session, {.answer = {.write = [](std::string_view text) { print(text); },
                                             .stop = [&] { return signals.interrupted() || signals.end_signal() != 0; }},
                                  .say = [](std::string_view text) { print_message(text); },
                                  .stats = !arguments.model.common.quiet});
  if (!arguments.model.common.quiet) print_message("Type a message; /help lists the commands.");
  bool leaving = false, asked_to_confirm = false;
  while (!leaving && signals.end_signal() == 0) {
    try {
      const ChatInput input = read_input([&](const char* prompt) { return editor.read_line(prompt); });
      if (input.kind == ChatInput::Kind::kEnd) break;
      if (input.kind == ChatInput::Kind::kInterrupt) {
        leaving = input.text.empty() && asked_to_confirm;
        asked_to_confirm = input.text.empty();
        if (asked_to_confirm && !leaving) print_message("Ctrl-C again, or Ctrl-D, leaves.");
        continue;
      }
      history.add(input.text);
      signals.second_interrupt_ends(true);
      leaving = !dialogue.handle(input.text);
      asked_to_confirm = dialogue.was_stopped();
    } catch (const Error& error) {
      print_message(fmt::format("error: {}", error.what()));
      asked_to_confirm = false;
    }
    signals.second_interrupt_ends(false);
    signals.take_interrupt();
  }
  if (signals.end_signal() == 0) return;
  ::signal(signals.end_signal(), SIG_DFL);
  ::raise(signals.end_signal());
}

// A script: the first error ends it, since the rest was written for another conversation.
void chat_with_script(ChatSession& session, const Arguments& arguments) {
  ChatDialogue dialogue(
      session,
      {.answer = {.write = print, .stop = [] { return false; }}, .say = print_message, .stats = !arguments.model.common.quiet});
  while (true) {
    const ChatInput input = read_input([](const char*) { return read_plain_line(); });
    if (input.kind == ChatInput::Kind::kEnd || !dialogue.handle(input.text)) return;
  }
}

int run(const Arguments& arguments) {
  LanguageModel model = load_model(arguments.model);
  ChatSettings settings{.sampler = sampler_options(arguments.sampling, model.defaults()),
                        .seed = arguments.sampling.seed,
                        .tokens = arguments.tokens,
                        .template_variables = template_variables(arguments.conversation, model)};
  try {
    validate(settings.sampler, model.model().config().vocabulary);
  } catch (const Error& error) {
    throw flag_error(error);
  }
  ChatSession session(model, std::move(settings), cache_type(arguments.model), arguments.conversation.system);
  if (::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0) {
    chat_at_terminal(session, arguments);
  } else {
    chat_with_script(session, arguments);
  }
  return 0;
}

}  // namespace

RunCommand register_chat(CLI::App& app) {
  auto* const command = app.add_subcommand("chat", "Converse with a model; /help lists the commands");
  const auto arguments = std::make_shared<Arguments>();
  add_template_options(*command, arguments->conversation);
  add_option(*command, "-n,--tokens", arguments->tokens,
             "At most this many tokens of each answer; 0: what the context has room for", "TOKENS");
  command->add_flag("--no-history", arguments->no_history, "Keep what is typed out of the history file")
      ->envname("TRITLLM_NO_HISTORY");
  add_model_options(*command, arguments->model);
  command->remove_option(command->get_option("--json"));  // a dialogue is not one answer
  add_sampling_options(*command, arguments->sampling);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
