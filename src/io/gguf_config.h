// Owns config.json and generation_config.json of a model that came as a GGUF file. Does not own the tensors' names
// (gguf_family.h) nor rotary scaling (gguf_rope.h).
#pragma once

#include <span>

#include "core/json_fwd.h"
#include "io/gguf.h"
#include "io/gguf_family.h"
#include "io/gguf_tokenizer.h"
#include "io/source_tensor.h"

namespace tritllm {

// The number as JSON, with no more digits than the float32 needs: 1e-05 rather than 9.999999747378752e-06.
Json json_real(float value);

Json config_of(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions, const GgufOptionalParts& parts,
               const GgufTokenIds& ids, std::span<const SourceTensor> tensors);

Json generation_config_of(const GgufFile& file, const GgufTokenIds& ids);

// The families' own fields (GgufFamily::add_config).
void add_llama_config(const GgufFile& file, const GgufDimensions& dimensions, const GgufOptionalParts& parts, Json& config);
void add_qwen2_config(const GgufFile& file, const GgufDimensions& dimensions, const GgufOptionalParts& parts, Json& config);
void add_qwen3_config(const GgufFile& file, const GgufDimensions& dimensions, const GgufOptionalParts& parts, Json& config);
void add_gemma3_config(const GgufFile& file, const GgufDimensions& dimensions, const GgufOptionalParts& parts, Json& config);

}  // namespace tritllm
