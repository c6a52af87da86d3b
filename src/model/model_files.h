// Owns a model on disk as the engine sees it: config, side files, and weights by name, whether they are packed or dense. Does not
// own what the weights are for (model.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/json_fwd.h"
#include "core/thread_pool.h"
#include "io/model_source.h"
#include "io/weight_source.h"

namespace tritllm {

// How many bytes of weights a device has taken, of how many.
using LoadProgress = std::function<void(uint64_t bytes_done, uint64_t bytes_total)>;

struct ModelFiles {
  std::filesystem::path path;
  JsonDocument config;
  std::string config_place;  // names the config in errors
  std::vector<SideFile> side_files;
  std::vector<std::string> warnings;
  std::unordered_map<std::string, WeightSource> weights;
  std::shared_ptr<const void> owner;  // of the bytes that the weights point to
  LoadProgress on_progress;           // called as the weights are loaded, where set
};

// A packed folder, an HF folder or a GGUF file, or a folder that holds one of them (io/model_location.h). Everything is verified:
// checksums and trits of a packed folder, structure of others. Where config.json ties head and embedding, the weights hold one of
// them.
ModelFiles open_model_files(const std::filesystem::path& path, ThreadPool& pool);

// Of all weights, as they are stored.
uint64_t weight_bytes(const ModelFiles& files);
// What a device should have free for the model: its weights in the device's own layout, a cache and work space.
inline uint64_t device_bytes(const ModelFiles& files) { return weight_bytes(files) / 4 * 5 + (uint64_t{2} << 30); }

// "where: tensor 'NAME'".
std::string weight_place(const ModelFiles& files, const std::string& name);

}  // namespace tritllm
