// Owns the terminal of a chat: editing keys and history (by libedit), pasted text that stays one input, and the signals of an
// interactive program. Does not own the history's file (chat_input.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "app/chat_input.h"

namespace tritllm::app {

// Ctrl-C, a resized or resumed terminal, a request to end. Handlers only leave notes here; whoever waits for input polls
// descriptor() as well.
class TerminalSignals {
 public:
  // One at a time, for as long as the process lives.
  TerminalSignals();

  // Readable once a signal came; drained by forget_wakeups().
  int descriptor() const noexcept;
  void forget_wakeups() noexcept;

  // Each answers once for each signal, or for several that came together.
  bool take_interrupt() noexcept;
  bool take_resize() noexcept;
  bool take_resume() noexcept;

  bool interrupted() const noexcept;
  // SIGTERM or SIGHUP, or 0: to be raised again once the terminal is in order.
  int end_signal() const noexcept;

  // Whether a second Ctrl-C, before the first was taken, ends the process: only while the terminal is as the shell left it.
  void second_interrupt_ends(bool does) noexcept;
};

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
