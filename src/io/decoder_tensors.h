// Owns the list of tensors that a decoder of the Llama kind has: their names in Hugging Face folders and in GGUF files, their
// shapes, what each is for, and how it is split over several devices. The loader, GGUF files, synthetic models and tests read this
// one table. Does not own which model family has which of them (model/families.h, gguf_family.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tritllm {

// Those before kAttentionNorm are there once, the others in each layer.
enum class DecoderPart : uint8_t {
  kEmbedding,
  kFinalNorm,
  kHead,
  kAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kOutput,
  kQueryBias,
  kKeyBias,
  kValueBias,
  kOutputBias,
  kQueryNorm,
  kKeyNorm,
  kAfterAttentionNorm,
  kAttentionInnerNorm,
  kFeedForwardNorm,
  kGate,
  kUp,
  kDown,
  kGateBias,
  kUpBias,
  kDownBias,
  kAfterFeedForwardNorm,
  kFeedForwardInnerNorm,
};

enum class DecoderRole : uint8_t { kEmbedding, kHead, kMatrix, kBias, kNorm };

// What each of several devices holds of a matrix: all of it, a slice of its rows, or a slice of its columns. Outputs of row slices
// stay where they are; outputs of column slices are summed over the devices.
enum class DecoderSplit : uint8_t { kNone, kRows, kColumns };

// Sizes of a model, and which optional tensors it has.
struct DecoderShape {
  uint64_t vocabulary = 0, hidden = 0, feed_forward = 0, layers = 0;
  uint64_t query_width = 0, key_value_width = 0;  // heads · head_width
  uint64_t head_width = 0;
  bool query_key_value_biases = false, output_bias = false, feed_forward_biases = false;
  bool query_key_norm = false;       // gains of head_width elements
  bool norms_after_blocks = false;   // four norms a layer; the one before the feed-forward block then has a name of its own
  bool norms_inside_blocks = false;  // what the output and down matrices multiply is normed first
  bool own_head = true;              // the head is not the embedding
};

struct DecoderTensor {
  DecoderPart part;
  std::optional<uint32_t> layer;  // nothing where the tensor is there once
  std::string name, gguf_name;
  std::vector<uint64_t> shape;  // outermost first; one dimension for norms and biases
  DecoderRole role;
  DecoderSplit split;
  bool rotated;  // rows belong to heads that are rotated: Llama's GGUF files store them interleaved
};

// Whether a model of this shape has the part.
bool has_part(const DecoderShape& shape, DecoderPart part) noexcept;

// One tensor; `layer` is read where the part belongs to a layer. Whether the model has it is not asked.
DecoderTensor decoder_tensor(const DecoderShape& shape, DecoderPart part, uint32_t layer = 0);

// All tensors that the model has, those of the whole model first, then layer by layer, in the order of DecoderPart.
void for_each_tensor(const DecoderShape& shape, const std::function<void(const DecoderTensor&)>& visit);

// The tensor that a GGUF file calls so, or nothing where no model of these layers has one of that name.
std::optional<DecoderTensor> find_gguf_tensor(const DecoderShape& shape, std::string_view gguf_name);

}  // namespace tritllm
