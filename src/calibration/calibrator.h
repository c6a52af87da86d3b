// Owns the calibration of a model: layer after layer, product after product, each matrix rounded for the inputs that it will really
// see. Does not own the calibration text, nor where the rounded matrices go (src/tasks).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calibration/calibrated_matrix.h"
#include "calibration/calibration_device.h"
#include "calibration/moment_factors.h"
#include "calibration/streams.h"
#include "calibration/token_sensitivity.h"
#include "model/model_files.h"

namespace tritllm {

// One configuration that is made.
class CalibratedOutput {
 public:
  virtual ~CalibratedOutput() = default;
  // 0: the tensor stays as it is.
  virtual int depth(const std::string& tensor) const = 0;
  // Decoded weights, [rows][columns], of a matrix that an earlier run has finished.
  virtual std::optional<std::vector<float>> finished(const std::string& tensor) = 0;
  // Stores a matrix and returns its decoded weights as finished() would.
  virtual std::vector<float> store(const std::string& tensor, const CalibratedMatrix& matrix) = 0;
};

struct CalibrationJob {
  const TokenSequences* sequences;
  const TokenWeights* weights;  // how much each token counts
  std::vector<CalibratedOutput*> outputs;
  ConditioningOptions conditioning;
  std::function<void()> between_parts;  // called often; may throw to end the work
};

// Everything that the job points to outlives the call. `files` are those of the source, which the engine must be able to run.
// One sequence of sixteen is held back: a matrix that loses more there than the one of recipe optimal is replaced by it. Returns
// the names of those, over all outputs.
std::vector<std::string> calibrate(const ModelFiles& files, const CalibrationJob& job, const CalibrationDevice& device);

// Bytes that calibrate() takes at once, on the host and on a device beside it.
uint64_t calibration_memory(const ModelConfig& config, uint64_t tokens, size_t outputs) noexcept;
uint64_t calibration_device_memory(const ModelConfig& config, size_t outputs) noexcept;

}  // namespace tritllm
