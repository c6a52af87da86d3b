// Owns the step from what a user named to the folder or file that is the model: output folders of this program, hub caches, folders
// of GGUF files, files of a model folder, ids of the hub; and what may lie there in place of a model's files. Does not own the
// reading of any of them.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tritllm {

// The packed folder, Hugging Face folder or GGUF file that `path` is, holds or belongs to; of a split GGUF file, its first part. An
// id of the hub stands for what the hub's cache holds of that model (HF_HUB_CACHE, HF_HOME, ~/.cache/huggingface/hub). Throws where
// there is none, and where there are several: the error lists them.
std::filesystem::path locate_model(const std::filesystem::path& path);

// All parts of a split GGUF file (NAME-00001-of-0000N.gguf), in order, from any of them; only `path` where the name is not that of
// a part. Throws where a part is missing.
std::vector<std::filesystem::path> gguf_parts(const std::filesystem::path& path);

// Throws where these are the few lines that Git keeps in place of a large file; `where` names the file.
void refuse_git_lfs_pointer(std::string_view contents, const std::string& where);

}  // namespace tritllm
