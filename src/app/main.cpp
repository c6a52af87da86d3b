// Owns the process: signals, limits, and the one place where an error becomes a line and an exit status.
// Exit status: 0 done, 1 failure, 2 usage.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <new>
#include <sstream>
#include <string_view>

#include "app/command.h"
#include "app/program.h"
#include "core/error.h"

namespace tritllm::app {
namespace {

constexpr int kFailure = 1, kUsage = 2;

// A mapped file was shortened by another program while it was being read. All finished work is on disk and in the journal.
void end_on_lost_mapping(int) {
  constexpr std::string_view kMessage = "error: a file shrank while it was being read; restore it and run the command again\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  ::_exit(kFailure);
}

void set_up_signals() {
  struct sigaction on_bus_error {};
  on_bus_error.sa_handler = end_on_lost_mapping;
  ::sigaction(SIGBUS, &on_bus_error, nullptr);
  // A file-size limit and a closed pipe then come back as errors of the write, which name the file.
  ::signal(SIGXFSZ, SIG_IGN);
  ::signal(SIGPIPE, SIG_IGN);
}

// A file that is opened while a standard stream is closed takes its number, and then gets what is printed. So each closed stream
// leads to /dev/null before anything else is opened.
bool occupy_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    if (::open("/dev/null", O_RDWR) != stream) return false;  // the lowest free number is taken
  }
  return true;
}

// A large model in many configurations has more files open at once than the usual soft limit of 1024.
void allow_many_files() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace
}  // namespace tritllm::app

int main(int argc, char** argv) {
  using namespace tritllm;
  if (!app::occupy_standard_streams()) return app::kFailure;
  app::set_up_signals();
  app::allow_many_files();
  try {
    return app::run_program(argc, argv);
  } catch (const Error& error) {
    app::print_message(fmt::format("error: {}", app::error_text(error)));
    return error.code() == ErrorCode::kUsage ? app::kUsage : app::kFailure;
  } catch (const std::bad_alloc&) {
    app::print_message("error: out of memory");
    return app::kFailure;
  } catch (const std::exception& error) {
    // Of a library; nothing of tritllm's own throws these.
    app::print_message(fmt::format("error: internal: {}; please report it", printable(error.what())));
    return app::kFailure;
  }
}
