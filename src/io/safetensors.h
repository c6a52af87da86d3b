// Owns the safetensors container: a strict reader over bytes that nobody has vouched for, and a writer that knows every offset
// before the first byte of data. Does not own which tensors a model has (hf_folder.h, checkpoint.h).
//
// The format: 8 bytes little-endian header length, a JSON header {"name": {dtype, shape, data_offsets: [begin, end]}, …,
// "__metadata__": {string: string}}, then the data, which the ranges cover exactly: no hole, no overlap, no tail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/element_type.h"

namespace tritllm {

struct StoredTensor {
  std::string name;
  ElementType type;
  std::vector<uint64_t> shape;
  uint64_t offset;  // from the start of the file
  uint64_t bytes;
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // ordered by offset
  std::map<std::string, std::string> metadata;
};

inline constexpr uint64_t kLargestSafetensorsHeader = 100'000'000;
inline constexpr size_t kLongestTensorName = 4096;

// `file` is the whole file, of which only the header is touched; `where` names it in errors.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& where);

// A tensor that a file is going to hold.
struct PlannedTensor {
  std::string name;
  ElementType type;
  std::vector<uint64_t> shape;

  uint64_t bytes() const noexcept;
};

// The header of a file that holds these tensors in this order, and where their data go.
struct SafetensorsLayout {
  std::string header;             // with its length in front and its padding behind: the file's first bytes
  std::vector<uint64_t> offsets;  // of each tensor, from the start of the file
  uint64_t file_bytes;
};

// The data begin at a multiple of 64 bytes.
SafetensorsLayout plan_safetensors(std::span<const PlannedTensor> tensors, const std::map<std::string, std::string>& metadata);

}  // namespace tritllm
