// Owns the reading of a Hugging Face model folder: config, weights in one or several safetensors files, and the files that go with
// them. Everything is cross-checked before the first weight is touched. Does not own what a model's config means (src/model).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_source.h"

namespace tritllm {

ModelSource open_hf_folder(const std::filesystem::path& folder);

// Files that a model folder may carry along (tokenizer, generation settings, templates, licences), read whole.
std::vector<SideFile> read_side_files(const std::filesystem::path& folder);

// The files of {"weight_map": {tensor: file}}: plain names, each once, in the order of first mention; and the map itself.
struct WeightMap {
  std::vector<std::string> files;
  std::vector<std::pair<std::string, std::string>> tensors;
};
WeightMap parse_weight_map(std::string_view text, const std::string& where);

}  // namespace tritllm
