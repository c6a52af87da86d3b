// Owns the joining of the parts that `quantize --shard i/n` made into the model that one run would have made, byte for byte.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/thread_pool.h"

namespace tritllm {

struct MergeRequest {
  std::vector<std::filesystem::path> folders;  // OUT folders of the runs; one where they shared it
  std::filesystem::path out;
  bool emit_packed = true, emit_model = true;
};

// One report for each configuration found. Refuses parts that are missing, doubled, damaged or of different runs.
std::vector<Json> merge_parts(const MergeRequest& request, ThreadPool& pool);

}  // namespace tritllm
