// Owns the way to the files of a model folder, which may come from a stranger: a link in it leads to no file of somebody else, and
// what cannot be read is an error, never taken for absent. Does not own what the files mean.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "io/mapped_file.h"

namespace tritllm {

// `name` is relative to the folder. Links are followed to places in the folder and, where the folder is a snapshot in the hub's
// cache, to the blobs of the same model there; any other link is an Error, as is one that leads nowhere.

// Whether there is a regular file of that name. A folder, FIFO or device of that name is an Error.
bool has_model_file(const std::filesystem::path& folder, std::string_view name);
// Whether there is a folder of that name. Anything else of that name is an Error.
bool has_model_folder(const std::filesystem::path& folder, std::string_view name);

// As read_text_file() and MappedFile::open().
std::string read_model_file(const std::filesystem::path& folder, std::string_view name, uint64_t limit);
MappedFile map_model_file(const std::filesystem::path& folder, std::string_view name);

}  // namespace tritllm
