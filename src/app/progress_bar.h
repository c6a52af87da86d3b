// Owns how progress looks on standard error: a line that redraws itself on a terminal, a line now and then in a log. Does not own
// what is being done.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

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

// Work that the caller's thread does: "reading the prompt  42 %, 12 s left", or the time that it has taken as long as nobody knows
// how far it is. Redraws itself; work shorter than a moment shows nothing.
class WorkLine {
 public:
  WorkLine(std::string what, bool quiet);

  void show(double done, double total, const std::string& note = "");
  // Until the next show(), so that other text can be written to the terminal.
  void clear();
  bool on_terminal() const noexcept { return line_.on_terminal(); }

 private:
  using Clock = std::chrono::steady_clock;

  void run(const std::stop_token& stop);
  void draw();

  StatusLine line_;
  const std::string what_;
  const Clock::time_point begin_ = Clock::now();
  std::mutex mutex_;  // of what follows, and of the drawing
  Clock::time_point last_drawn_ = begin_;
  double fraction_ = 0, expected_seconds_ = 0;
  std::string note_;
  bool hidden_ = false;
  std::jthread ticker_;
};

// A model that is being loaded: opened and verified first, then moved to the device.
class LoadingLine {
 public:
  LoadingLine(const std::string& model, bool quiet)
      : quiet_(quiet), model_(model), line_(std::in_place, "opening " + model, quiet) {}

  void show(uint64_t bytes_done, uint64_t bytes_total);

 private:
  bool quiet_;
  std::string model_;
  uint64_t bytes_done_ = UINT64_MAX;
  std::optional<WorkLine> line_;
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
