// Owns the proof that a checkpoint is what it says: sound by itself, and, where the source is at hand, what quantising it gives.
#pragma once

#include <filesystem>
#include <vector>

#include "core/thread_pool.h"
#include "io/model_problem.h"

namespace tritllm {

// Everything that is wrong with a packed folder; with a plain folder or GGUF file: structure, weights that are not finite and,
// where tritllm made it, checksums.
std::vector<ModelProblem> verify_model(const std::filesystem::path& model, ThreadPool& pool);

// Quantises `sample` of the packed folder's matrices (all where 0) anew from the source, compares them byte for byte, and
// compares the checksum of every source tensor that it read.
std::vector<ModelProblem> verify_against_source(const std::filesystem::path& packed, const std::filesystem::path& source,
                                                size_t sample, ThreadPool& pool);

}  // namespace tritllm
