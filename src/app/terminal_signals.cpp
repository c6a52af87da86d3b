#include "app/terminal_signals.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "core/error.h"

namespace tritllm::app {
namespace {

constexpr int kInterruptedStatus = 130;  // 128 + SIGINT, as shells count

std::atomic<bool> interrupt{false}, resize{false}, resume{false}, second_ends{false};
std::atomic<int> end{0};
std::array<int, 2> wakeups{-1, -1};

// Any thread of the process may be the one that runs this.
void note(int signal) {
  const int saved = errno;
  switch (signal) {
    case SIGINT:
      if (interrupt.exchange(true) && second_ends) ::_exit(kInterruptedStatus);
      break;
    case SIGWINCH: resize = true; break;
    case SIGCONT: resume = true; break;
    default: end = signal;
  }
  [[maybe_unused]] const ssize_t written = ::write(wakeups[1], "", 1);  // a full pipe wakes as well
  errno = saved;
}

}  // namespace

TerminalSignals::TerminalSignals() {
  if (::pipe2(wakeups.data(), O_CLOEXEC | O_NONBLOCK) != 0) throw io_error("signals", "make a pipe", errno);
  for (const int signal : {SIGINT, SIGWINCH, SIGCONT, SIGTERM, SIGHUP}) {
    struct sigaction action {};
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    ::sigaction(signal, &action, nullptr);
  }
}

int TerminalSignals::descriptor() const noexcept { return wakeups[0]; }

void TerminalSignals::forget_wakeups() noexcept {
  std::array<char, 64> drain{};
  while (::read(wakeups[0], drain.data(), drain.size()) > 0) {
  }
}

bool TerminalSignals::take_interrupt() noexcept { return interrupt.exchange(false); }
bool TerminalSignals::take_resize() noexcept { return resize.exchange(false); }
bool TerminalSignals::take_resume() noexcept { return resume.exchange(false); }
bool TerminalSignals::interrupted() const noexcept { return interrupt; }
int TerminalSignals::end_signal() const noexcept { return end; }
void TerminalSignals::second_interrupt_ends(bool does) noexcept { second_ends = does; }

}  // namespace tritllm::app
