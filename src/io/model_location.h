// Owns the step from what a user named to the folder or file that is the model: output folders of this program, hub caches, folders
// of GGUF files. Does not own the reading of any of them.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace tritllm {

// The packed folder, Hugging Face folder or GGUF file that `path` is or holds; of a split GGUF file, its first part. Throws where
// there is none, and where there are several: the error lists them.
std::filesystem::path locate_model(const std::filesystem::path& path);

// All parts of a split GGUF file (NAME-00001-of-0000N.gguf), in order, from any of them; only `path` where the name is not that of
// a part. Throws where a part is missing.
std::vector<std::filesystem::path> gguf_parts(const std::filesystem::path& path);

}  // namespace tritllm
