// Owns the look at what a model's files name, also where their tensors are of types that nothing here reads. Does not own the
// reading of a model (model_source.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace tritllm {

// A tensor as a file's table names it.
struct ListedTensor {
  std::string name;
  std::vector<uint64_t> shape;  // slowest-varying dimension first
  std::string type;
  bool is_read;  // whether the type is one that this software reads
};

// Of one file; where the data lie is not looked at. `where` names the file in errors.
std::vector<ListedTensor> list_safetensors(std::span<const std::byte> file, const std::string& where);
std::vector<ListedTensor> list_gguf(std::span<const std::byte> file, const std::string& where);

// Of all weight files of an HF folder, or all parts of a GGUF file.
std::vector<ListedTensor> list_tensors(const std::filesystem::path& path);

}  // namespace tritllm
