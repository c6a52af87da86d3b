// Owns what the parts of the Python module share: their registration, JSON as text, and calls that leave Python running. Does not
// own any function of the module.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/json.h"

namespace tritllm::python {

namespace nb = nanobind;

// How long a call that waits goes without looking for Ctrl-C.
inline constexpr std::chrono::milliseconds kSignalInterval{50};

void bind_errors(nb::module_& module);
void bind_generation(nb::module_& module);
void bind_tasks(nb::module_& module);
void bind_matrices(nb::module_& module);

// An argument that the Python side has written with json.dumps().
inline Json parse_argument(const std::string& text) { return parse_json(text, "argument"); }
// Bytes that are no UTF-8 become U+FFFD.
inline std::string json_argument(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// Throws KeyboardInterrupt, or what another handler of a signal has thrown, in the main thread. Needs the GIL.
inline void check_signals() {
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

// What a task that runs beside Python tells it.
class TaskNews {
 public:
  bool should_stop() const noexcept { return stop_; }
  void stop() noexcept { stop_ = true; }
  // From any thread. Only the latest progress is kept, and every warning.
  void progress(Json news);
  void warn(std::string warning);

 private:
  friend void run_task(const std::function<void(TaskNews&)>& task, const nb::object& on_progress, const nb::object& on_warning);
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  // of what follows
  std::string progress_;
  std::vector<std::string> warnings_;
};

// Runs the task in a thread of its own, without the GIL; the calling thread hands its news to the functions, which may be None, and
// looks for Ctrl-C. An exception of theirs asks the task to stop, and is thrown when it has ended.
void run_task(const std::function<void(TaskNews&)>& task, const nb::object& on_progress, const nb::object& on_warning);

}  // namespace tritllm::python
