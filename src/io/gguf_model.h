// Owns the translation of one GGUF file into "a model to read" (model_source.h), with everything that an HF folder of the same
// model would hold. Does not own the container (gguf.h) nor the choice between folder and file (open_model).
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "io/model_source.h"

namespace tritllm {

ModelSource open_gguf_model(const std::filesystem::path& path);

// The same from bytes in memory, which must outlive the result; `path` is what the model calls itself. A split model has several
// parts, in order.
ModelSource translate_gguf(std::span<const std::byte> bytes, const std::filesystem::path& path);
ModelSource translate_gguf_parts(std::span<const std::span<const std::byte>> parts, const std::filesystem::path& path);

}  // namespace tritllm
