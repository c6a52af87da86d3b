// Owns the typing of a line at a terminal: editing keys and history (by libedit), pasted text that stays one input, Ctrl-C. Does
// not own the history's file (input_history.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "app/chat_input.h"
#include "app/terminal_signals.h"

namespace tritllm::app {

class LineEditor {
 public:
  // Standard input and output are terminals. The signals outlive the editor.
  explicit LineEditor(TerminalSignals& signals);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // The terminal is as the shell left it before and after. Pasted newlines stay in the text.
  ChatInput read_line(const char* prompt);

  // For the keys that walk through former inputs.
  void remember(const std::string& input);

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
};

}  // namespace tritllm::app
