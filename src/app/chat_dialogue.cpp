#include "app/chat_dialogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "app/chat_input.h"
#include "app/command.h"
#include "core/error.h"
#include "core/file.h"

namespace tritllm::app {
namespace {

constexpr uint64_t kLargestConversation = uint64_t{64} << 20;
constexpr std::string_view kSpace = " \t\r\n";

std::string_view trimmed(std::string_view text) noexcept {
  const size_t first = text.find_first_not_of(kSpace);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

// The first word, and what follows it.
std::pair<std::string_view, std::string_view> split_word(std::string_view text) noexcept {
  const size_t end = std::min(text.find_first_of(kSpace), text.size());
  return {text.substr(0, end), trimmed(text.substr(end))};
}

void require_argument(std::string_view command, const std::string& argument) {
  if (argument.empty()) throw Error(ErrorCode::kUsage, command, "expected the name of a file after it");
}

}  // namespace

const std::vector<ChatDialogue::Command>& ChatDialogue::commands() {
  static const std::vector<Command> kCommands{
      {"/help", "", "these lines", &ChatDialogue::help},
      {"/system", "[TEXT]", "replace the system message, or remove it; the conversation stays", &ChatDialogue::set_system},
      {"/regen", "", "answer the last message again", &ChatDialogue::answer_again},
      {"/save", "FILE", "write conversation and settings to a JSON file", &ChatDialogue::save},
      {"/load", "FILE", "go on with the conversation and the settings of such a file", &ChatDialogue::load},
      {"/set", "[NAME VALUE]", "change a setting; alone, list them", &ChatDialogue::set},
      {"/stats", "", "tokens, speed and memory so far", &ChatDialogue::show_stats},
      {"/clear", "", "forget the conversation; system message and settings stay", &ChatDialogue::clear},
      {"/exit", "", "leave, as does Ctrl-D", &ChatDialogue::leave}};
  return kCommands;
}

bool ChatDialogue::handle(std::string_view input) {
  stopped_ = false;
  if (trimmed(input).empty()) return true;
  if (input.starts_with('/') && !input.starts_with("//")) {
    run_command(input);
    return !leaving_;
  }
  const std::string_view message = input.starts_with('/') ? input.substr(1) : without_block_marks(input);
  report(session_.ask(std::string(message), outputs_.answer));
  return true;
}

void ChatDialogue::run_command(std::string_view line) {
  const auto [name, argument] = split_word(line);
  for (const Command& command : commands()) {
    if (command.name != name) continue;
    if (command.parameters.empty() && !argument.empty()) {
      throw Error(ErrorCode::kUsage, name, fmt::format("expected nothing after it, found '{}'", printable(argument, 40)));
    }
    return (this->*command.run)(std::string(argument));
  }
  throw Error(ErrorCode::kUsage, printable(name, 40), "is not a command",
              "/help lists them; a message that begins with / is written with //");
}

void ChatDialogue::report(const AnswerStats& stats) {
  stopped_ = stats.finish == FinishReason::kCancelled;
  outputs_.answer.write("\n");
  if (stats.finish == FinishReason::kContext) {
    outputs_.say(
        fmt::format("The context of {} tokens is full: the answer was cut. /clear forgets the conversation.", session_.context()));
  }
  if (!outputs_.stats) return;
  outputs_.say(fmt::format("[prompt {} tokens, {} of them reused, {:.1f}/s; answer {} tokens, {:.1f}/s; {}]", stats.prompt_tokens,
                           stats.reused_tokens, stats.prompt_speed(), stats.answer_tokens, stats.answer_speed(),
                           finish_reason_name(stats.finish)));
}

void ChatDialogue::help(const std::string&) {
  std::string text;
  for (const Command& command : commands()) {
    text += fmt::format("{:<20} {}\n", fmt::format("{} {}", command.name, command.parameters), command.help);
  }
  outputs_.say(
      text +
      "A message of several lines begins with \"\"\" and ends with \"\"\". A message that begins with / is written with //.\n"
      "Ctrl-C stops an answer, and clears a line; on an empty line, pressed twice, it leaves.");
}

void ChatDialogue::set_system(const std::string& argument) {
  const std::string former = session_.system();
  session_.set_system(argument);
  if (!argument.empty()) return outputs_.say("The system message is set.");
  outputs_.say(former.empty() ? "There is no system message." : fmt::format("The system message is removed. It was: {}", former));
}

void ChatDialogue::answer_again(const std::string&) { report(session_.ask_again(outputs_.answer)); }

void ChatDialogue::save(const std::string& argument) {
  require_argument("/save", argument);
  write_file_atomically(argument, json_text(session_.to_json()));
  outputs_.say(fmt::format("Saved {} messages to {}.", session_.message_count(), printable(argument)));
}

void ChatDialogue::load(const std::string& argument) {
  require_argument("/load", argument);
  session_.load(parse_json(read_text_file(argument, kLargestConversation), argument), argument);
  outputs_.say(fmt::format("Loaded {} messages from {}.", session_.message_count(), printable(argument)));
}

void ChatDialogue::set(const std::string& argument) {
  const auto [name, value] = split_word(argument);
  if (name.empty()) return outputs_.say(session_.settings_text());
  if (value.empty()) throw Error(ErrorCode::kUsage, "/set", fmt::format("expected a value after {}", printable(name, 40)));
  session_.set(name, value);
  outputs_.say(fmt::format("{} is set to {}.", name, value));
}

void ChatDialogue::show_stats(const std::string&) {
  const AnswerStats& totals = session_.totals();
  outputs_.say(
      fmt::format("{} messages; {} of {} tokens of context in use; key/value cache {}\n"
                  "all answers: prompts {} tokens, {} of them reused, {:.1f}/s; answers {} tokens, {:.1f}/s",
                  session_.message_count(), session_.tokens_used(), session_.context(), readable_bytes(session_.cache_bytes()),
                  totals.prompt_tokens, totals.reused_tokens, totals.prompt_speed(), totals.answer_tokens, totals.answer_speed()));
}

void ChatDialogue::clear(const std::string&) {
  session_.clear();
  outputs_.say("The conversation is forgotten.");
}

void ChatDialogue::leave(const std::string&) { leaving_ = true; }

}  // namespace tritllm::app
