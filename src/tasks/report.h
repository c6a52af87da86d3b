// Owns report.json, the account of one configuration for scripts: what every tensor became, and what it cost.
#pragma once

#include <cstdint>

#include "core/json.h"
#include "io/manifest.h"

namespace tritllm {

struct RunCost {
  double seconds = 0;              // wall clock of the run that finished this configuration; it may have made others beside it
  double thread_seconds = 0;       // spent on this configuration's codec, summed over threads
  uint64_t quantised_weights = 0;  // in that run; fewer than the model's where an interrupted run was continued
  unsigned threads = 0;
};

// Sums of error over all ternary matrices together.
struct ModelError {
  double relative_mse = 0;
  std::optional<double> sqnr_db;
};
ModelError model_error(const std::vector<TensorRecord>& tensors);

struct FolderBytes {
  uint64_t packed = 0, model = 0;  // all weight files; 0 where the folder was not asked for
};

Json report_json(const Manifest& manifest, const RunCost& cost, const FolderBytes& bytes);

}  // namespace tritllm
