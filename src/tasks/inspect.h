// Owns the summary of a model on disk: what kind it is, its tensors, and its sizes. Reads structure, not weights.
#pragma once

#include <filesystem>

#include "core/json.h"

namespace tritllm {

// A model of types that are not read is listed too, as kind "unread", with the error that reading it gives. For a packed folder
// also its sizes, errors and the fate of each tensor; for a source the role that quantising would see in each.
Json inspect_model(const std::filesystem::path& path);

}  // namespace tritllm
