// Owns how progress looks on standard error: a line that redraws itself on a terminal, a line now and then in a log. Does not own
// what is being done.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "tasks/quantize_model.h"

namespace tritllm::app {

// One line that redraws itself on a terminal, and is gone when the work is done. Shows nothing elsewhere.
class StatusLine {
 public:
  // `quiet`: never shows anything.
  explicit StatusLine(bool quiet);
  ~StatusLine() { clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  bool on_terminal() const noexcept { return terminal_; }
  // Control characters in the text are escaped; what the terminal has no room for is cut.
  void show(const std::string& text);
  void clear();

 private:
  bool terminal_, drawn_ = false;
};

// Work of known size: "reading the prompt  42 %, 12 s left", at most ten times a second. Too short a work shows nothing.
class WorkLine {
 public:
  WorkLine(std::string what, bool quiet) : line_(quiet), what_(std::move(what)) {}

  void show(double done, double total, const std::string& note = "");
  void clear() { line_.clear(); }
  bool on_terminal() const noexcept { return line_.on_terminal(); }

 private:
  StatusLine line_;
  std::string what_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now(), last_shown_ = begin_;
};

// Work of unknown length, done by the caller's thread while this shows the time that it has taken.
class WaitingLine {
 public:
  WaitingLine(const std::string& what, bool quiet);

 private:
  StatusLine line_;
  std::jthread ticker_;
};

// The whole run of `tritllm quantize`.
class ProgressBar {
 public:
  ProgressBar() : line_(/*quiet=*/false) {}
  void show(const QuantizeProgress& progress);
  void finish();

 private:
  StatusLine line_;
  double last_shown_ = -1e9;
};

}  // namespace tritllm::app
