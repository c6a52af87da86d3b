// Owns turning a compressed model back into an ordinary one: a packed checkpoint or a GGUF file into a Hugging Face folder that
// stock software loads.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "core/thread_pool.h"
#include "io/element_type.h"
#include "io/folder_writer.h"
#include "io/packed_checkpoint.h"
#include "tasks/model_card.h"

namespace tritllm {

using OnWarning = std::function<void(const std::string& warning)>;

// Bit for bit the FP16 folder that quantising wrote beside the packed one. Fails where `out` exists.
void dequantize_packed(
    const std::filesystem::path& packed, const std::filesystem::path& out, ThreadPool& pool,
    const OnWarning& on_warning = [](const std::string&) {});

// A model folder or GGUF file as an HF folder with weights of this type (F32 or F16).
void write_plain_model(const std::filesystem::path& model, const std::filesystem::path& out, ElementType type, ThreadPool& pool);

// Decodes one matrix into the FP16 folder; its bytes are checked before they are trusted.
void write_decoded_matrix(const TernaryMatrix& matrix, const std::string& name, const std::string& place, const FolderWriter& plain,
                          ThreadPool& pool);

// What the packed folder's own files tell about its source.
CardFacts card_facts_of(const PackedCheckpoint& checkpoint);

// Tensors of the plain folder that belongs to a packed one.
std::vector<std::vector<PlannedTensor>> plain_units_of(const std::vector<TensorRecord>& tensors);

}  // namespace tritllm
