#include "tasks/run_progress.h"

#include <algorithm>
#include <utility>

#include "core/file.h"
#include "core/json.h"

namespace tritllm {
namespace {

constexpr double kSecondsBetweenFiles = 1.0;

}  // namespace

RunProgress::RunProgress(std::filesystem::path file, OnProgress on_progress)
    : file_(std::move(file)), on_progress_(std::move(on_progress)) {}

void RunProgress::start(std::vector<std::string> configs, size_t tensors, uint64_t weights) {
  configs_ = std::move(configs);
  progress_.tensors_total = tensors;
  progress_.weights_total = weights;
}

void RunProgress::begin_tensor(const std::string& name) {
  progress_.tensor = name;
  weights_before_tensor_ = progress_.weights_done;
}

void RunProgress::count(uint64_t weights) {
  progress_.weights_done += weights;
  show();
}

void RunProgress::end_tensor(uint64_t weights) {
  progress_.weights_done = weights_before_tensor_ + weights;
  ++progress_.tensors_done;
  show();
}

void RunProgress::end_search(uint64_t weights) {
  progress_.weights_done = weights_before_tensor_ + weights;
  show();
}

void RunProgress::done() {
  progress_.tensor.clear();
  measure();
  on_progress_(progress_);
  write_file("done");
}

void RunProgress::ended(const char* state) noexcept {
  try {
    measure();
    progress_.seconds_left.reset();
    write_file(state);
  } catch (...) {
  }
}

double RunProgress::seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

void RunProgress::measure() {
  progress_.seconds = seconds();
  const auto fresh = static_cast<double>(progress_.weights_done - std::min(progress_.weights_done, weights_skipped_));
  const auto left = static_cast<double>(progress_.weights_total - std::min(progress_.weights_total, progress_.weights_done));
  progress_.seconds_left = fresh > 0 ? std::optional(progress_.seconds / fresh * left) : std::nullopt;
}

void RunProgress::show() {
  measure();
  on_progress_(progress_);
  if (last_written_ && progress_.seconds - *last_written_ < kSecondsBetweenFiles) return;
  last_written_ = progress_.seconds;
  write_file("running");
}

void RunProgress::write_file(const char* state) {
  const Json json{{"state", state},
                  {"configs", configs_},
                  {"tensor", progress_.tensor},
                  {"tensors_done", progress_.tensors_done},
                  {"tensors_total", progress_.tensors_total},
                  {"weights_done", progress_.weights_done},
                  {"weights_total", progress_.weights_total},
                  {"seconds", progress_.seconds},
                  {"seconds_left", progress_.seconds_left ? Json(*progress_.seconds_left) : Json(nullptr)}};
  write_file_atomically(file_, json_text(json));
}

}  // namespace tritllm
