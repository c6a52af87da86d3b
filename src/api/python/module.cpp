// The extension module tritllm._native: what python/tritllm/ is made of. Not an interface of its own.
#include <nanobind/stl/string.h>

#include <exception>
#include <future>
#include <utility>

#include "api/python/binding.h"
#include "core/error.h"

namespace tritllm::python {
namespace {

const char* class_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kUsage:
    case ErrorCode::kBadInput: return "InvalidInputError";
    case ErrorCode::kNotFound: return "NotFoundError";
    case ErrorCode::kIo: return "InputOutputError";
    case ErrorCode::kConflict: return "ConflictError";
    case ErrorCode::kUnsupported: return "UnsupportedError";
  }
  return "Error";
}

void raise(const Error& error) {
  const nb::object type = nb::module_::import_("tritllm.errors").attr(class_of(error.code()));
  const auto text = [](const std::string& bytes) {
    return nb::steal(PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
  };
  const nb::object value = type(text(error.what()), text(error.where()), text(error.problem()), text(error.remedy()));
  PyErr_SetObject(type.ptr(), value.ptr());
}

}  // namespace

void bind_errors(nb::module_&) {
  nb::register_exception_translator([](const std::exception_ptr& failure, void*) {
    try {
      std::rethrow_exception(failure);
    } catch (const Error& error) {
      raise(error);
    }
  });
}

void TaskNews::progress(Json news) {
  std::string text = json_argument(news);
  const std::lock_guard lock(mutex_);
  progress_ = std::move(text);
}

void TaskNews::warn(std::string warning) {
  const std::lock_guard lock(mutex_);
  warnings_.push_back(std::move(warning));
}

void run_task(const std::function<void(TaskNews&)>& task, const nb::object& on_progress, const nb::object& on_warning) {
  TaskNews news;
  std::future<void> done = std::async(std::launch::async, [&] { task(news); });
  const auto hand_on = [&] {
    std::string progress;
    std::vector<std::string> warnings;
    {
      const std::lock_guard lock(news.mutex_);
      progress.swap(news.progress_);
      warnings.swap(news.warnings_);
    }
    if (!progress.empty() && !on_progress.is_none()) on_progress(progress);
    for (const std::string& warning : warnings) {
      if (!on_warning.is_none()) on_warning(warning);
    }
  };
  try {
    for (bool running = true; running;) {
      {
        const nb::gil_scoped_release release;
        running = done.wait_for(kSignalInterval) != std::future_status::ready;
      }
      check_signals();
      hand_on();
    }
  } catch (...) {
    news.stop();
    const nb::gil_scoped_release release;
    done.wait();
    throw;
  }
  done.get();
}

}  // namespace tritllm::python

NB_MODULE(_native, module) {
  using namespace tritllm::python;
  module.attr("__version__") = TRITLLM_VERSION;
  bind_errors(module);
  bind_generation(module);
  bind_tasks(module);
  bind_matrices(module);
}
