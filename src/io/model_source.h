// Owns "a model to read": its tensors, config and accompanying files, whether they came as an HF folder (hf_folder.h) or as one
// GGUF file (gguf_model.h). Everything is validated when this exists; only the tensors' bytes are still in the mapped files.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/json_fwd.h"
#include "io/mapped_file.h"
#include "io/source_tensor.h"

namespace tritllm {

// A file that belongs to the model besides its weights: tokenizer, generation settings, licence texts.
struct SideFile {
  std::string name;  // relative to the model's folder, '/' between parts; never "..", never absolute
  std::string contents;
};

struct ModelSource {
  std::filesystem::path path;             // of the folder or file
  std::string kind;                       // "hf_folder" or "gguf"
  std::vector<MappedFile> files;          // in the order of the index; own the tensors' bytes
  std::vector<SourceTensor> tensors;      // in file order, each name once
  JsonDocument config;                    // config.json (made from the metadata for GGUF)
  std::vector<SideFile> side_files;       // without config.json and the README
  std::string card;                       // the source's README.md, empty where there is none
  std::optional<std::string> base_model;  // hub id, where the source tells one
  std::optional<std::string> license;     // SPDX-like identifier as used in model cards, where the source tells one
  std::vector<std::string> warnings;      // things the user should hear: ignored Python files, already quantised weights
};

// OWNER/NAME of a model hub, from that or from its page's address; nothing where the text is something else, such as a title or a
// path.
std::optional<std::string> hub_id(std::string_view text);

// An HF folder, a GGUF file, or a folder that holds one of them (model_location.h). `ModelSource::path` is what was found.
ModelSource open_model(const std::filesystem::path& path);

}  // namespace tritllm
