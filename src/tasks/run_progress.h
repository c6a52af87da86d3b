// Owns how far a run is: counts, the guess of the time left, and progress.json. Does not own how a terminal shows it (src/app).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tritllm {

struct QuantizeProgress {
  std::string tensor;  // at work; empty at the end
  size_t tensors_done = 0, tensors_total = 0;
  uint64_t weights_done = 0, weights_total = 0;  // of the source, each counted once however many configurations there are
  double seconds = 0;
  std::optional<double> seconds_left;
};

using OnProgress = std::function<void(const QuantizeProgress&)>;

class RunProgress {
 public:
  // Starts the clock; writes nothing yet.
  RunProgress(std::filesystem::path file, OnProgress on_progress);

  void start(std::vector<std::string> configs, size_t tensors, uint64_t weights);
  void begin_tensor(const std::string& name);
  void count(uint64_t weights);
  // The tensor was done by an earlier run and says nothing about this one's speed.
  void skip(uint64_t weights) noexcept { weights_skipped_ += weights; }
  // `weights`: all of the tensor, whatever was counted.
  void end_tensor(uint64_t weights);
  // After begin_tensor(), for a look at the tensor before the work on it: it counts like weights, not like a tensor.
  void end_search(uint64_t weights);
  void done();
  // Writes the state of a run that ended without its results, "failed" or "interrupted", so that monitors stop waiting. Errors here
  // are swallowed: the one that ended the run is reported.
  void ended(const char* state) noexcept;

  double seconds() const;

 private:
  void measure();
  void show();
  void write_file(const char* state);

  std::filesystem::path file_;
  OnProgress on_progress_;
  std::vector<std::string> configs_;
  QuantizeProgress progress_;
  uint64_t weights_before_tensor_ = 0, weights_skipped_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::optional<double> last_written_;
};

}  // namespace tritllm
