// Owns the summary of a model on disk: what kind it is, its tensors, and its sizes. Reads structure, not weights.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>

#include "core/json.h"

namespace tritllm {

// What a model is, without its tensors, and each tensor as it is asked for: a tree of all of them takes some twenty times the
// header that lists them.
struct Inspection {
  Json summary;
  size_t tensor_count = 0;
  std::function<Json(size_t)> tensor;

  // The summary with all tensors as its last member, "tensors".
  Json whole() const;
};

// A model of types that are not read is listed too, as kind "unread", with the error that reading it gives. For a packed folder
// also its sizes, errors and the fate of each tensor; for a source the role that quantising would see in each.
Inspection inspect_model(const std::filesystem::path& path);

}  // namespace tritllm
