// Owns turning a compressed model back into an ordinary one: a packed checkpoint or a GGUF file into a Hugging Face folder that
// stock software loads.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "core/thread_pool.h"
#include "io/element_type.h"

namespace tritllm {

using OnWarning = std::function<void(const std::string& warning)>;

// Bit for bit the FP16 folder that quantising wrote beside the packed one. Fails where `out` exists.
void dequantize_packed(
    const std::filesystem::path& packed, const std::filesystem::path& out, ThreadPool& pool,
    const OnWarning& on_warning = [](const std::string&) {});

// A model folder or GGUF file as an HF folder with weights of this type (F32 or F16).
void write_plain_model(
    const std::filesystem::path& model, const std::filesystem::path& out, ElementType type, ThreadPool& pool,
    const OnWarning& on_warning = [](const std::string&) {});

}  // namespace tritllm
