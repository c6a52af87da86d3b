// Owns what an input of a chat means: a message to the model, or one of the commands that begin with /. Does not own the
// conversation (chat_session.h), nor where inputs come from and texts go to.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "app/chat_session.h"

namespace tritllm::app {

struct DialogueOutputs {
  AnswerHooks answer;
  std::function<void(std::string_view)> say;  // what commands report
  bool stats = true;                          // a line about each answer
};

class ChatDialogue {
 public:
  ChatDialogue(ChatSession& session, DialogueOutputs outputs) : session_(session), outputs_(std::move(outputs)) {}

  // False where the user wants to leave. After an Error the dialogue can go on.
  bool handle(std::string_view input);

  // Whether the last input got an answer that was stopped.
  bool was_stopped() const noexcept { return stopped_; }

 private:
  // `argument` is the rest of the line.
  struct Command {
    std::string_view name, parameters, help;
    void (ChatDialogue::*run)(const std::string& argument);
  };
  static const std::vector<Command>& commands();

  void run_command(std::string_view line);
  void report(const AnswerStats& stats);

  void help(const std::string& argument);
  void set_system(const std::string& argument);
  void answer_again(const std::string& argument);
  void save(const std::string& argument);
  void load(const std::string& argument);
  void set(const std::string& argument);
  void show_stats(const std::string& argument);
  void clear(const std::string& argument);
  void leave(const std::string& argument);

  ChatSession& session_;
  DialogueOutputs outputs_;
  bool leaving_ = false, stopped_ = false;
};

}  // namespace tritllm::app
