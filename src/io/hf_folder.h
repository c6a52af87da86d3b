// Owns the reading of a Hugging Face model folder: config, weights in one or several safetensors files, and the files that go with
// them. Everything is cross-checked before the first weight is touched. Does not own what a model's config means (src/model).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_problem.h"
#include "io/model_source.h"

namespace tritllm {

inline constexpr uint64_t kLargestConfig = uint64_t{4} << 20;  // of a tree of JSON values this makes 150 MB
inline constexpr uint64_t kLargestSideFile = uint64_t{256} << 20, kLargestSideFiles = uint64_t{1} << 30;

ModelSource open_hf_folder(const std::filesystem::path& folder);

// Every file of the folder that cannot be what it should be, looked at by itself. What concerns several files together is
// open_hf_folder()'s business.
void examine_hf_files(const std::filesystem::path& folder, ModelProblems& problems);

// Files that a model folder may carry along (tokenizer, generation settings, templates, licences), read whole. Refuses more than
// kLargestSideFiles bytes of them before any is read.
std::vector<SideFile> read_side_files(const std::filesystem::path& folder);
// Bytes of these files and the README.
uint64_t side_file_bytes(const std::filesystem::path& folder);

// The files of {"weight_map": {tensor: file}}: plain names, each once, in the order of first mention; and the map itself.
struct WeightMap {
  std::vector<std::string> files;
  std::vector<std::pair<std::string, std::string>> tensors;
};
WeightMap parse_weight_map(std::string_view text, const std::string& where);

}  // namespace tritllm
