// Owns the proof that a checkpoint is what it says: sound by itself, and, where the source is at hand, what quantising it gives.
#pragma once

#include <filesystem>
#include <vector>

#include "core/thread_pool.h"
#include "io/packed_checkpoint.h"

namespace tritllm {

// Everything wrong with a packed folder. A plain folder or GGUF file is checked for structure and for weights that are not finite.
std::vector<PackedProblem> verify_model(const std::filesystem::path& path, ThreadPool& pool);

// Quantises `sample` of the packed folder's matrices (all where 0) anew from the source, compares them byte for byte, and
// compares the checksum of every source tensor that it read.
std::vector<PackedProblem> verify_against_source(const std::filesystem::path& packed, const std::filesystem::path& source,
                                                 size_t sample, ThreadPool& pool);

}  // namespace tritllm
