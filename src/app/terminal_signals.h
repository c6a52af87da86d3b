// Owns the signals of an interactive program: Ctrl-C, a resized or resumed terminal, a request to end. Handlers only leave notes
// here; whoever waits for input polls descriptor() beside it. Does not own what follows from a signal.
#pragma once

namespace tritllm::app {

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

}  // namespace tritllm::app
