// Owns what a quantising run does for its calibrated configurations: refusals before the first byte, the text and the weights of
// its tokens, which all of them share, depths where they are mixed, and the matrices of the layers. Does not own the calibration
// itself (src/calibration), nor the output of a configuration (config_run.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "calibration/calibrator.h"
#include "calibration/depth_choice.h"
#include "calibration/token_sensitivity.h"
#include "core/thread_pool.h"
#include "model/config.h"
#include "model/model_files.h"
#include "tasks/config_run.h"
#include "tasks/quantize_model.h"

namespace tritllm {

bool calibrates(codec::Config config) noexcept;
// Whether each product of the model has a depth of its own, chosen by calibration.
bool mixes_depths(codec::Config config) noexcept;

class ModelCalibration {
 public:
  struct Hooks {
    std::function<void()> between_parts;                      // called often; may throw to end the run
    std::function<void(const std::string& name)> begin_part;  // what is at work from now on
  };

  // Refuses options that contradict each other, or that no configuration reads, and models that the engine does not run.
  ModelCalibration(const ModelSource& model, const QuantizeOptions& options, Hooks hooks);

  // For the fingerprint of a configuration: equal text, equal bytes.
  std::string description(codec::Config config) const;

  // Before any work for a configuration that calibrates: weighs memory, of which the run takes `other_memory` besides, and reads
  // the user's text.
  void prepare(uint64_t other_memory);

  // For mixed depths: of each matrix, by position.
  void choose_depths(ConfigRun& run, std::span<const uint64_t> positions, ThreadPool& pool);

  // Whether the tensor is one that make_layers() makes for this run.
  bool makes(const ConfigRun& run, uint64_t position) const;
  // Whether one of them is still to be made.
  bool lacks_any(const ConfigRun& run, std::span<const uint64_t> positions) const;
  // Makes them, for as many outputs at a time as memory allows.
  void make_layers(std::span<CalibratedOutput* const> outputs, ThreadPool& pool);

 private:
  void check_options() const;
  void read(ThreadPool& pool);
  void choose_device();
  CalibrationDevice device(ThreadPool& pool);
  uint64_t free_device_memory() const;
  double bits_for(const ConfigRun& run, std::span<const DepthItem> items) const;
  uint64_t memory(size_t outputs) const noexcept;

  const ModelSource& model_;
  const QuantizeOptions& options_;
  Hooks hooks_;
  std::optional<ModelConfig> config_;  // where a configuration calibrates
  std::set<std::string> layer_matrices_;
  uint64_t other_memory_ = 0;
  std::optional<int> cuda_;  // the device that computes; nothing: the CPU does
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Algebra> algebra_;
  std::optional<ModelFiles> files_;
  TokenSequences text_;
  std::optional<TokenWeights> weights_;
};

}  // namespace tritllm
