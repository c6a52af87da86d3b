// Owns how a model's tensors are spread over safetensors files whose size is bounded, with every offset known before anything is
// written. Does not own what the tensors are.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/safetensors.h"

namespace tritllm {

inline constexpr uint64_t kLargestShard = 5'000'000'000;

// How the files of one kind of checkpoint are called and marked.
struct ShardNaming {
  std::string_view stem;       // "model" makes model-00001-of-00002.safetensors
  bool single_without_number;  // a lone file is called STEM.safetensors and needs no index
  std::string_view index_name;
  std::map<std::string, std::string> metadata;
};

const ShardNaming& packed_naming();  // trits-0000i-of-0000n.safetensors, always with an index
const ShardNaming& plain_naming();   // model.safetensors, or model-0000i-of-0000n.safetensors with an index

struct ShardFile {
  std::string name;
  std::string header;  // the file's first bytes
  uint64_t bytes;      // of the whole file
};

struct TensorLocation {
  size_t file;
  uint64_t offset;  // from the start of the file
  uint64_t bytes;
};

struct ShardPlan {
  std::vector<ShardFile> files;
  std::unordered_map<std::string, TensorLocation> locations;
  std::string index_name;  // empty where no index is needed
  std::string index_text;

  uint64_t weight_bytes() const noexcept;  // of the files, without the index
  uint64_t total_bytes() const noexcept;
};

// `units` are tensors that stay together in one file, in order. Throws where two tensors share a name.
ShardPlan plan_shards(const std::vector<std::vector<PlannedTensor>>& units, const ShardNaming& naming,
                      uint64_t largest_shard = kLargestShard);

}  // namespace tritllm
