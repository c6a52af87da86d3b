// Owns report.json, the account of one configuration for scripts: what every tensor became, and what it cost.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/json.h"
#include "io/manifest.h"
#include "tasks/matrix_job.h"

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

// Whether FP16 costs the tensor more than `decibels` of what the packed folder has; of a kept tensor, whether it costs it anything
// to speak of.
bool is_plain_loss(const TensorRecord& record, const PlainError& plain, double decibels);

// Token embedding and head of the packed folder where they are kept: their bytes, and those of the whole file if they were packed
// too, {bytes, embedding, head, packed_bytes_if_packed}; null where they are not kept, or where there is no packed folder.
Json kept_embeddings(const Manifest& manifest, const Json& config, uint64_t packed_bytes);

// `plain`: what FP16 loses of each tensor, by name; empty where there is no FP16 folder. Tensors for which that is no loss of 0.01
// dB do not mention it.
Json report_json(const Manifest& manifest, const RunCost& cost, const FolderBytes& bytes,
                 const std::map<std::string, PlainError>& plain = {});

}  // namespace tritllm
