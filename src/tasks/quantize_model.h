// Owns the quantising of a model: plan, checks before the first byte is written, the loop over tensors, and the results of every
// configuration. Does not own what is printed (src/app) nor the arithmetic (src/codec).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "codec/config.h"
#include "core/error.h"
#include "core/json.h"
#include "io/model_source.h"
#include "tasks/calibration_text.h"
#include "tasks/config_run.h"
#include "tasks/model_card.h"
#include "tasks/run_progress.h"
#include "tasks/tensor_policy.h"

namespace tritllm {

struct QuantizeOptions {
  std::filesystem::path model;
  std::vector<codec::Config> configs;
  OutputRequest output;
  TensorPolicy policy;
  CalibrationText calibration;  // of recipes that calibrate
  // Of configuration `calibrated`, which gives each product of the model a depth of its own: stored bits a weight of its matrices
  // on average, or bytes of the whole packed file.
  std::optional<double> bits;
  std::optional<uint64_t> size;
  // Where recipes that calibrate compute: cpu, cuda, cuda:N or auto (backend/device.h). The others use the CPU.
  std::string device = "cpu";
  CardWishes card;
  unsigned threads = 0;  // 0: all processors
  uint64_t max_memory = uint64_t{2} << 30;
  OnProgress on_progress = [](const QuantizeProgress&) {};
  std::function<void(const std::string&)> on_warning = [](const std::string&) {};
  // Asked between blocks of weights, from any thread; true ends the run with Interrupted.
  std::function<bool()> should_stop = [] { return false; };
};

// The run was asked to stop. What it had done is kept; the same command goes on from there.
class Interrupted : public Error {
 public:
  explicit Interrupted(const std::filesystem::path& out)
      : Error(ErrorCode::kConflict, out.string(), "interrupted", "the same command goes on from here") {}
};

struct ConfigResult {
  std::string config;
  bool was_complete;  // nothing had to be done
  Json report;        // as in report.json; null for a part
};

std::vector<ConfigResult> quantize_model(const QuantizeOptions& options);

// What quantize_model() would do: sizes, memory and disk space, without writing anything.
Json plan_quantization(const QuantizeOptions& options);

}  // namespace tritllm
