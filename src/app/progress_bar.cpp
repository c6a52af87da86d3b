#include "app/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <utility>

#include "app/command.h"
#include "core/error.h"
#include "core/utf8.h"

namespace tritllm::app {
namespace {

constexpr double kTerminalInterval = 0.1, kLogInterval = 10.0;  // seconds
constexpr std::chrono::milliseconds kFirstShown{300};           // shorter work needs no line

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

size_t terminal_columns() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return std::max<size_t>(20, known ? size.ws_col - 1u : 79u);
}

// The characters that certainly fit: one of several bytes is never wider than two columns.
std::string cut_to(const std::string& text, size_t columns) {
  size_t bytes = 0, used = 0;
  while (bytes < text.size()) {
    const size_t length = std::max<size_t>(1, utf8_sequence_length(std::string_view(text).substr(bytes)));
    used += length == 1 ? 1 : 2;
    if (used > columns) break;
    bytes += length;
  }
  return text.substr(0, bytes);
}

}  // namespace

StatusLine::StatusLine(bool quiet) : terminal_(!quiet && ::isatty(STDERR_FILENO) == 1) {}

void StatusLine::show(const std::string& text) {
  if (!terminal_) return;
  fmt::print(stderr, "\r\x1b[K{}", cut_to(printable(text, 1000), terminal_columns()));
  std::fflush(stderr);
  drawn_ = true;
}

void StatusLine::clear() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
}

WorkLine::WorkLine(std::string what, bool quiet) : line_(quiet), what_(std::move(what)) {
  if (line_.on_terminal()) ticker_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void WorkLine::show(double done, double total, const std::string& note) {
  if (!line_.on_terminal()) return;
  const std::scoped_lock lock(mutex_);
  fraction_ = total > 0 ? std::clamp(done / total, 0.0, 1.0) : 1.0;
  if (fraction_ > 0) expected_seconds_ = seconds_since(begin_) / fraction_;
  note_ = note;
  hidden_ = false;
  if (Clock::now() - begin_ >= kFirstShown && seconds_since(last_drawn_) >= kTerminalInterval) draw();
}

void WorkLine::clear() {
  const std::scoped_lock lock(mutex_);
  hidden_ = true;
  line_.clear();
}

// The mutex is held.
void WorkLine::draw() {
  last_drawn_ = Clock::now();
  const double seconds = seconds_since(begin_);
  std::string text = fmt::format("{}  {}", what_, readable_seconds(seconds));
  if (fraction_ > 0) {
    text =
        fmt::format("{}  {:.0f} %, {} left", what_, 100 * fraction_, readable_seconds(std::max(0.0, expected_seconds_ - seconds)));
  }
  if (!note_.empty()) text += "  " + note_;
  line_.show(text);
}

void WorkLine::run(const std::stop_token& stop) {
  std::condition_variable_any never;
  std::unique_lock lock(mutex_);
  never.wait_for(lock, stop, kFirstShown, [] { return false; });
  while (!stop.stop_requested()) {
    if (!hidden_) draw();
    never.wait_for(lock, stop, std::chrono::seconds(1), [] { return false; });
  }
}

void LoadingLine::show(uint64_t bytes_done, uint64_t bytes_total) {
  // Opening took a time of its own, and so did a model that was loaded before.
  if (bytes_done < bytes_done_) line_.emplace("loading " + model_, quiet_);
  bytes_done_ = bytes_done;
  line_->show(static_cast<double>(bytes_done), static_cast<double>(bytes_total));
}

void ProgressBar::show(const QuantizeProgress& progress) {
  const bool last = progress.tensors_done == progress.tensors_total;
  if (!last && progress.seconds - last_shown_ < (line_.on_terminal() ? kTerminalInterval : kLogInterval)) return;
  last_shown_ = progress.seconds;
  const double fraction =
      progress.weights_total == 0 ? 1.0 : static_cast<double>(progress.weights_done) / static_cast<double>(progress.weights_total);
  const std::string time_left = progress.seconds_left ? readable_seconds(*progress.seconds_left) + " left" : "";
  const std::string counts =
      fmt::format("{:3.0f} %  {}/{} tensors  {}", 100 * fraction, progress.tensors_done, progress.tensors_total, time_left);
  if (!line_.on_terminal()) {
    if (!progress.tensor.empty()) print_message(fmt::format("{}  {}", counts, printable(progress.tensor)));
    return;
  }
  constexpr int kBarColumns = 24;
  const int filled = static_cast<int>(fraction * kBarColumns);
  line_.show(fmt::format("[{:=<{}}{:<{}}] {}  {}", "", filled, "", kBarColumns - filled, counts, progress.tensor));
}

void ProgressBar::finish() { line_.clear(); }

}  // namespace tritllm::app
