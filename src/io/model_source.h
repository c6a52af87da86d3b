// Owns "a model to read": its tensors, config and accompanying files, whether they came as an HF folder (hf_folder.h) or as one
// GGUF file (gguf_model.h). Everything is validated when this exists; only the tensors' bytes are still in the mapped files.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/json_fwd.h"
#include "io/mapped_file.h"
#include "io/source_identity.h"
#include "io/source_tensor.h"

namespace tritllm {

// A file that belongs to the model besides its weights: tokenizer, generation settings, licence texts.
struct SideFile {
  std::string name;  // relative to the model's folder, '/' between parts; never "..", never absolute
  std::string contents;
};

struct ModelSource {
  std::filesystem::path path;         // of the folder or file
  std::string kind;                   // "hf_folder" or "gguf"
  std::vector<MappedFile> files;      // in the order of the index; own the tensors' bytes
  std::vector<SourceTensor> tensors;  // in file order, each name once
  JsonDocument config;                // config.json (made from the metadata for GGUF)
  std::vector<SideFile> side_files;   // without config.json and the README
  std::string card;                   // the source's README.md, empty where there is none
  SourceIdentity identity;
  std::vector<std::string> warnings;  // things the user should hear: ignored Python files, a head of its own
  std::vector<std::string>
      quantising_warnings;  // things that only those should hear who quantise it: weights that were quantised before
};

// An HF folder, a GGUF file, or a folder that holds one of them (model_location.h). `ModelSource::path` is what was found.
ModelSource open_model(const std::filesystem::path& path);

}  // namespace tritllm
