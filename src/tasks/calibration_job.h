// Owns the way of calibrated matrices into the output of their configurations. Does not own the calibration (src/calibration).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <unordered_map>

#include "calibration/calibrator.h"
#include "core/thread_pool.h"
#include "tasks/config_run.h"
#include "tasks/report.h"

namespace tritllm {

// A configuration of a calibrated recipe that is not complete.
class CalibrationSink final : public CalibratedOutput {
 public:
  // `on_stored` is called with the position of each matrix that is stored. Everything outlives the sink.
  CalibrationSink(const ModelSource& model, ConfigRun& run, RunCost& cost, ThreadPool& pool,
                  std::function<void(uint64_t position)> on_stored);

  int depth(const std::string& tensor) const override;
  std::optional<std::vector<float>> finished(const std::string& tensor) override;
  std::vector<float> store(const std::string& tensor, const CalibratedMatrix& matrix) override;

 private:
  const ModelSource& model_;
  ConfigRun& run_;
  RunCost& cost_;
  ThreadPool& pool_;
  std::function<void(uint64_t)> on_stored_;
  std::unordered_map<std::string, uint64_t> positions_;
};

}  // namespace tritllm
