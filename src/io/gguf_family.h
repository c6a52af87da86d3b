// Owns what tritllm knows about each architecture that it reads from GGUF files: one row of flags apiece, and the check of a file's
// tensors against it. Does not own the tensors' names (decoder_tensors.h), config.json (gguf_config.h) nor the tokenizer
// (gguf_tokenizer.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"
#include "io/gguf.h"
#include "io/source_tensor.h"

namespace tritllm {

// What the metadata says about the model's size; all positive, heads a multiple of key_value_heads.
struct GgufDimensions {
  uint64_t hidden, layers, heads, key_value_heads, head_dimension, feed_forward, vocabulary, context;
};

// Tensors that a file has for every layer or not at all.
struct GgufOptionalParts {
  bool attention_biases = false;     // on q, k, v and the output projection
  bool feed_forward_biases = false;  // on gate, up and down
  bool head = false;                 // an output matrix of its own; otherwise the embedding serves
};

enum class GgufSpaces { kLlama, kGemma };               // how SentencePiece vocabularies of the family write spaces and rank merges
enum class GgufBiases { kNone, kInputsOnly, kByFile };  // of attention: on q, k and v; or on all four projections, or none

struct GgufFamily {
  std::string_view architecture;             // general.architecture
  std::string_view model_type, model_class;  // as in config.json
  GgufBiases attention_biases = GgufBiases::kNone;
  bool may_have_feed_forward_biases = false;
  bool query_key_norm = false, norms_after_blocks = false;  // as in DecoderShape
  bool interleaves_heads = false;                           // rows of q and k: see SourceTensor::interleaved_heads
  float norm_offset = 0.0f;                                 // SourceTensor::offset of norm gains
  GgufSpaces spaces = GgufSpaces::kLlama;
  bool windows_every_layer_alike = true;  // false: `add_config` deals with attention.sliding_window
  // Adds the fields of config.json that only this family has.
  void (*add_config)(const GgufFile& file, const GgufDimensions& dimensions, const GgufOptionalParts& parts,
                     Json& config) = nullptr;
};

// The row of the file's architecture; an Error naming it where there is none.
const GgufFamily& family_of(const GgufFile& file);

GgufDimensions read_dimensions(const GgufFile& file);

// The value of "ARCHITECTURE.suffix" is looked up under this key.
std::string architecture_key(const GgufFile& file, std::string_view suffix);

// All tensors under their HF names, in file order: each known to the family, of the right extents, and none missing.
std::vector<SourceTensor> translate_tensors(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions,
                                            GgufOptionalParts& parts);

}  // namespace tritllm
