// Owns models of well-known shapes with random weights, made in memory: what speed is measured on where the real model is not at
// hand.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/model_files.h"

namespace tritllm {

struct SyntheticModel {
  std::string shape;        // "llama-3.1-8b"
  int depth = 2;            // of every matrix; 0: FP16 instead of ternary
  uint32_t vocabulary = 0;  // 0: the shape's own
  int head_depth = 0;       // of the output head; 0: FP16
};

// Every trit pattern of a depth is equally likely; the embedding is FP16. The same bytes each time.
ModelFiles make_synthetic_model(const SyntheticModel& model, ThreadPool& pool);

// "llama-3.2-1b, llama-3.1-8b, …"
std::string synthetic_shapes();

}  // namespace tritllm
