#include "app/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "app/command.h"
#include "core/error.h"

namespace tritllm::app {
namespace {

constexpr double kTerminalInterval = 0.1, kLogInterval = 10.0;  // seconds

int terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string time_left(const QuantizeProgress& progress) {
  return progress.seconds_left ? readable_seconds(*progress.seconds_left) + " left" : "";
}

}  // namespace

ProgressBar::ProgressBar() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void ProgressBar::show(const QuantizeProgress& progress) {
  const bool last = progress.tensors_done == progress.tensors_total;
  if (!last && progress.seconds - last_shown_ < (terminal_ ? kTerminalInterval : kLogInterval)) return;
  last_shown_ = progress.seconds;
  const double share =
      progress.weights_total == 0 ? 1.0 : static_cast<double>(progress.weights_done) / static_cast<double>(progress.weights_total);
  const std::string counts =
      fmt::format("{:3.0f} %  {}/{} tensors  {}", 100 * share, progress.tensors_done, progress.tensors_total, time_left(progress));
  if (!terminal_) {
    if (!progress.tensor.empty()) print_message(fmt::format("{}  {}", counts, printable(progress.tensor)));
    return;
  }
  constexpr int kBarColumns = 24;
  const int filled = static_cast<int>(share * kBarColumns);
  std::string line = fmt::format("[{:=<{}}{:<{}}] {}", "", filled, "", kBarColumns - filled, counts);
  const auto columns = static_cast<size_t>(std::max(20, terminal_columns() - 1));
  if (const std::string name = printable(progress.tensor); line.size() + 2 + name.size() < columns) line += "  " + name;
  line.resize(std::min(line.size(), columns));
  fmt::print(stderr, "\r\x1b[K{}", line);
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::finish() {
  if (drawn_) fmt::print(stderr, "\n");
  drawn_ = false;
}

}  // namespace tritllm::app
