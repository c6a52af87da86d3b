#include "io/gguf_family.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "core/error.h"
#include "io/gguf_config.h"

namespace tritllm {
namespace {

using enum GgufExtent;
constexpr uint64_t kLargestDimension = std::numeric_limits<int32_t>::max();
constexpr std::string_view kLayerPrefix = "blk.";
constexpr std::string_view kRotaryFactors = "rope_freqs.weight";  // becomes part of config.json (gguf_rope.h)

constexpr GgufTensorRow norm(std::string_view gguf_name, std::string_view hf_name, GgufExtent extent = kHidden) {
  return {gguf_name, hf_name, extent, kNone, GgufRowOrder::kAsInHf, GgufPart::kAlways, true};
}
constexpr GgufTensorRow matrix(std::string_view gguf_name, std::string_view hf_name, GgufExtent rows, GgufExtent columns,
                               GgufRowOrder order = GgufRowOrder::kAsInHf) {
  return {gguf_name, hf_name, rows, columns, order};
}
constexpr GgufTensorRow bias(std::string_view gguf_name, std::string_view hf_name, GgufExtent rows, GgufPart part,
                             GgufRowOrder order = GgufRowOrder::kAsInHf) {
  return {gguf_name, hf_name, rows, kNone, order, part};
}

constexpr std::array kWholeModel{
    matrix("token_embd.weight", "model.embed_tokens.weight", kVocabulary, kHidden),
    norm("output_norm.weight", "model.norm.weight"),
    GgufTensorRow{"output.weight", "lm_head.weight", kVocabulary, kHidden, GgufRowOrder::kAsInHf, GgufPart::kHead},
};

constexpr std::array kLlamaLayer{
    norm("attn_norm.weight", "input_layernorm.weight"),
    matrix("attn_q.weight", "self_attn.q_proj.weight", kQuery, kHidden, GgufRowOrder::kInterleaved),
    matrix("attn_k.weight", "self_attn.k_proj.weight", kKeyValue, kHidden, GgufRowOrder::kInterleaved),
    matrix("attn_v.weight", "self_attn.v_proj.weight", kKeyValue, kHidden),
    matrix("attn_output.weight", "self_attn.o_proj.weight", kHidden, kQuery),
    bias("attn_q.bias", "self_attn.q_proj.bias", kQuery, GgufPart::kAttentionBiases, GgufRowOrder::kInterleaved),
    bias("attn_k.bias", "self_attn.k_proj.bias", kKeyValue, GgufPart::kAttentionBiases, GgufRowOrder::kInterleaved),
    bias("attn_v.bias", "self_attn.v_proj.bias", kKeyValue, GgufPart::kAttentionBiases),
    bias("attn_output.bias", "self_attn.o_proj.bias", kHidden, GgufPart::kAttentionBiases),
    norm("ffn_norm.weight", "post_attention_layernorm.weight"),
    matrix("ffn_gate.weight", "mlp.gate_proj.weight", kFeedForward, kHidden),
    matrix("ffn_up.weight", "mlp.up_proj.weight", kFeedForward, kHidden),
    matrix("ffn_down.weight", "mlp.down_proj.weight", kHidden, kFeedForward),
    bias("ffn_gate.bias", "mlp.gate_proj.bias", kFeedForward, GgufPart::kFeedForwardBiases),
    bias("ffn_up.bias", "mlp.up_proj.bias", kFeedForward, GgufPart::kFeedForwardBiases),
    bias("ffn_down.bias", "mlp.down_proj.bias", kHidden, GgufPart::kFeedForwardBiases),
};

constexpr std::array kQwen2Layer{
    norm("attn_norm.weight", "input_layernorm.weight"),
    matrix("attn_q.weight", "self_attn.q_proj.weight", kQuery, kHidden),
    matrix("attn_k.weight", "self_attn.k_proj.weight", kKeyValue, kHidden),
    matrix("attn_v.weight", "self_attn.v_proj.weight", kKeyValue, kHidden),
    matrix("attn_output.weight", "self_attn.o_proj.weight", kHidden, kQuery),
    bias("attn_q.bias", "self_attn.q_proj.bias", kQuery, GgufPart::kAlways),
    bias("attn_k.bias", "self_attn.k_proj.bias", kKeyValue, GgufPart::kAlways),
    bias("attn_v.bias", "self_attn.v_proj.bias", kKeyValue, GgufPart::kAlways),
    norm("ffn_norm.weight", "post_attention_layernorm.weight"),
    matrix("ffn_gate.weight", "mlp.gate_proj.weight", kFeedForward, kHidden),
    matrix("ffn_up.weight", "mlp.up_proj.weight", kFeedForward, kHidden),
    matrix("ffn_down.weight", "mlp.down_proj.weight", kHidden, kFeedForward),
};

constexpr std::array kQwen3Layer{
    norm("attn_norm.weight", "input_layernorm.weight"),
    matrix("attn_q.weight", "self_attn.q_proj.weight", kQuery, kHidden),
    matrix("attn_k.weight", "self_attn.k_proj.weight", kKeyValue, kHidden),
    matrix("attn_v.weight", "self_attn.v_proj.weight", kKeyValue, kHidden),
    matrix("attn_output.weight", "self_attn.o_proj.weight", kHidden, kQuery),
    norm("attn_q_norm.weight", "self_attn.q_norm.weight", kHeadDimension),
    norm("attn_k_norm.weight", "self_attn.k_norm.weight", kHeadDimension),
    bias("attn_q.bias", "self_attn.q_proj.bias", kQuery, GgufPart::kAttentionBiases),
    bias("attn_k.bias", "self_attn.k_proj.bias", kKeyValue, GgufPart::kAttentionBiases),
    bias("attn_v.bias", "self_attn.v_proj.bias", kKeyValue, GgufPart::kAttentionBiases),
    bias("attn_output.bias", "self_attn.o_proj.bias", kHidden, GgufPart::kAttentionBiases),
    norm("ffn_norm.weight", "post_attention_layernorm.weight"),
    matrix("ffn_gate.weight", "mlp.gate_proj.weight", kFeedForward, kHidden),
    matrix("ffn_up.weight", "mlp.up_proj.weight", kFeedForward, kHidden),
    matrix("ffn_down.weight", "mlp.down_proj.weight", kHidden, kFeedForward),
};

constexpr std::array kGemma3Layer{
    norm("attn_norm.weight", "input_layernorm.weight"),
    matrix("attn_q.weight", "self_attn.q_proj.weight", kQuery, kHidden),
    matrix("attn_k.weight", "self_attn.k_proj.weight", kKeyValue, kHidden),
    matrix("attn_v.weight", "self_attn.v_proj.weight", kKeyValue, kHidden),
    matrix("attn_output.weight", "self_attn.o_proj.weight", kHidden, kQuery),
    norm("attn_q_norm.weight", "self_attn.q_norm.weight", kHeadDimension),
    norm("attn_k_norm.weight", "self_attn.k_norm.weight", kHeadDimension),
    norm("post_attention_norm.weight", "post_attention_layernorm.weight"),
    norm("ffn_norm.weight", "pre_feedforward_layernorm.weight"),
    matrix("ffn_gate.weight", "mlp.gate_proj.weight", kFeedForward, kHidden),
    matrix("ffn_up.weight", "mlp.up_proj.weight", kFeedForward, kHidden),
    matrix("ffn_down.weight", "mlp.down_proj.weight", kHidden, kFeedForward),
    norm("post_ffw_norm.weight", "post_feedforward_layernorm.weight"),
};

const std::array kFamilies{
    GgufFamily{"llama", "llama", "LlamaForCausalLM", kLlamaLayer, 0.0f, GgufSpaces::kLlama, true, add_llama_config},
    GgufFamily{"qwen2", "qwen2", "Qwen2ForCausalLM", kQwen2Layer, 0.0f, GgufSpaces::kLlama, true, add_qwen2_config},
    GgufFamily{"qwen3", "qwen3", "Qwen3ForCausalLM", kQwen3Layer, 0.0f, GgufSpaces::kLlama, true, add_qwen3_config},
    GgufFamily{"gemma3", "gemma3_text", "Gemma3ForCausalLM", kGemma3Layer, -1.0f, GgufSpaces::kGemma, false, add_gemma3_config},
};

uint64_t extent_of(GgufExtent extent, const GgufDimensions& dimensions) {
  switch (extent) {
    case kHidden: return dimensions.hidden;
    case kQuery: return dimensions.heads * dimensions.head_dimension;
    case kKeyValue: return dimensions.key_value_heads * dimensions.head_dimension;
    case kFeedForward: return dimensions.feed_forward;
    case kVocabulary: return dimensions.vocabulary;
    case kHeadDimension: return dimensions.head_dimension;
    case kNone: break;
  }
  return 0;
}

bool is_part_present(GgufPart part, const GgufOptionalParts& parts) {
  switch (part) {
    case GgufPart::kAlways: return true;
    case GgufPart::kAttentionBiases: return parts.attention_biases;
    case GgufPart::kFeedForwardBiases: return parts.feed_forward_biases;
    case GgufPart::kHead: return parts.head;
  }
  return true;
}

void note_part(GgufPart part, GgufOptionalParts& parts) {
  if (part == GgufPart::kAttentionBiases) parts.attention_biases = true;
  if (part == GgufPart::kFeedForwardBiases) parts.feed_forward_biases = true;
  if (part == GgufPart::kHead) parts.head = true;
}

struct NamedRow {
  const GgufTensorRow* row;
  std::string hf_name;
};

const GgufTensorRow* find_row(std::span<const GgufTensorRow> rows, std::string_view name) {
  const auto found = std::ranges::find(rows, name, &GgufTensorRow::gguf_name);
  return found == rows.end() ? nullptr : &*found;
}

// Nothing where the family has no such tensor. A layer number is written as printf writes it: no sign, no leading zeros.
std::optional<NamedRow> find_named_row(const GgufFamily& family, const GgufDimensions& dimensions, std::string_view name) {
  if (const GgufTensorRow* const row = find_row(kWholeModel, name)) return NamedRow{row, std::string(row->hf_name)};
  if (!name.starts_with(kLayerPrefix)) return std::nullopt;
  const std::string_view rest = name.substr(kLayerPrefix.size());
  uint64_t layer = 0;
  const auto [end, status] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  const auto digits = static_cast<size_t>(end - rest.data());
  if (status != std::errc() || digits == rest.size() || *end != '.' || (rest[0] == '0' && digits > 1)) return std::nullopt;
  if (layer >= dimensions.layers) return std::nullopt;
  const GgufTensorRow* const row = find_row(family.layer_tensors, rest.substr(digits + 1));
  if (!row) return std::nullopt;
  return NamedRow{row, fmt::format("model.layers.{}.{}", layer, row->hf_name)};
}

void check_extents(const std::string& place, const GgufTensor& tensor, const std::vector<uint64_t>& expected) {
  const std::vector<uint64_t> found(std::reverse_iterator(tensor.dimensions.begin() + tensor.dimension_count),
                                    std::reverse_iterator(tensor.dimensions.begin()));
  if (found == expected) return;
  throw Error(ErrorCode::kBadInput, place,
              fmt::format("expected the shape [{}] that the metadata asks for, found [{}]", fmt::join(expected, ", "),
                          fmt::join(found, ", ")));
}

uint32_t interleaved_heads(const GgufTensorRow& row, const GgufDimensions& dimensions) {
  if (row.order == GgufRowOrder::kAsInHf) return 0;
  return static_cast<uint32_t>(row.rows == kQuery ? dimensions.heads : dimensions.key_value_heads);
}

SourceTensor translate(const GgufFile& file, const GgufTensor& tensor, NamedRow named, const GgufFamily& family,
                       const GgufDimensions& dimensions) {
  const GgufTensorRow& row = *named.row;
  SourceTensor source;
  source.name = std::move(named.hf_name);
  source.shape = {extent_of(row.rows, dimensions)};
  if (row.columns != kNone) source.shape.push_back(extent_of(row.columns, dimensions));
  source.type = tensor.type;
  source.bytes = tensor.bytes;
  source.place = fmt::format("{}: tensor '{}'", file.where(), tensor.name);
  source.interleaved_heads = interleaved_heads(row, dimensions);
  source.offset = row.is_norm_gain ? family.norm_offset : 0.0f;
  check_extents(source.place, tensor, source.shape);
  return source;
}

void require_tensor(const GgufFile& file, const std::string& name) {
  if (!file.find_tensor(name)) throw Error(ErrorCode::kNotFound, file.where(), fmt::format("the tensor '{}' is missing", name));
}

// Stops at the first gap, so that a declared number of layers costs no more than the tensors that are there.
void require_all(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions, const GgufOptionalParts& parts) {
  for (const GgufTensorRow& row : kWholeModel) {
    if (is_part_present(row.part, parts)) require_tensor(file, std::string(row.gguf_name));
  }
  for (uint64_t layer = 0; layer < dimensions.layers; ++layer) {
    for (const GgufTensorRow& row : family.layer_tensors) {
      if (is_part_present(row.part, parts)) require_tensor(file, fmt::format("{}{}.{}", kLayerPrefix, layer, row.gguf_name));
    }
  }
}

uint64_t positive(const GgufFile& file, std::string_view suffix) {
  const std::string key = architecture_key(file, suffix);
  const uint64_t value = file.required_integer(key, kLargestDimension);
  if (value == 0) {
    throw Error(ErrorCode::kBadInput, fmt::format("{}: key '{}'", file.where(), key), "expected a positive number, found 0");
  }
  return value;
}

uint64_t positive_or(const GgufFile& file, std::string_view suffix, uint64_t fallback) {
  return file.has(architecture_key(file, suffix)) ? positive(file, suffix) : fallback;
}

uint64_t vocabulary_size(const GgufFile& file) {
  constexpr std::string_view kEmbedding = "token_embd.weight";
  require_tensor(file, std::string(kEmbedding));
  const GgufTensor& embedding = *file.find_tensor(kEmbedding);
  if (embedding.dimension_count != 2 || embedding.dimensions[1] > kLargestDimension) {
    throw Error(ErrorCode::kBadInput, fmt::format("{}: tensor '{}'", file.where(), kEmbedding),
                "expected a matrix of one row a token");
  }
  return embedding.dimensions[1];
}

// The whole head is rotated and used for keys and values alike in every family here; a file that says otherwise is another model.
void require_head_dimension(const GgufFile& file, std::string_view suffix, uint64_t head_dimension) {
  const uint64_t found = positive_or(file, suffix, head_dimension);
  if (found == head_dimension) return;
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: key '{}'", file.where(), architecture_key(file, suffix)),
              fmt::format("expected the head dimension {}, found {}", head_dimension, found));
}

}  // namespace

std::string architecture_key(const GgufFile& file, std::string_view suffix) {
  return fmt::format("{}.{}", file.required_text("general.architecture"), suffix);
}

const GgufFamily& family_of(const GgufFile& file) {
  const std::string_view architecture = file.required_text("general.architecture");
  const auto found = std::ranges::find(kFamilies, architecture, &GgufFamily::architecture);
  if (found != kFamilies.end()) return *found;
  std::vector<std::string_view> known;
  for (const GgufFamily& family : kFamilies) known.push_back(family.architecture);
  throw Error(ErrorCode::kUnsupported, file.where(),
              fmt::format("the architecture '{}' is not read from GGUF files; known are {}", printable(architecture),
                          fmt::join(known, ", ")),
              "use the model's original folder");
}

GgufDimensions read_dimensions(const GgufFile& file) {
  if (file.integer(architecture_key(file, "expert_count")).value_or(0) != 0) {
    throw Error(ErrorCode::kUnsupported, file.where(), "mixtures of experts are not read from GGUF files",
                "use the model's original folder");
  }
  GgufDimensions dimensions{};
  dimensions.hidden = positive(file, "embedding_length");
  dimensions.layers = positive(file, "block_count");
  dimensions.heads = positive(file, "attention.head_count");
  dimensions.key_value_heads = positive_or(file, "attention.head_count_kv", dimensions.heads);
  dimensions.feed_forward = positive(file, "feed_forward_length");
  dimensions.context = positive(file, "context_length");
  dimensions.vocabulary = vocabulary_size(file);
  const uint64_t even_share = std::max<uint64_t>(dimensions.hidden / dimensions.heads, 1);
  dimensions.head_dimension = positive_or(file, "attention.key_length", positive_or(file, "rope.dimension_count", even_share));
  require_head_dimension(file, "attention.value_length", dimensions.head_dimension);
  require_head_dimension(file, "rope.dimension_count", dimensions.head_dimension);
  if (dimensions.heads % dimensions.key_value_heads != 0 || dimensions.head_dimension % 2 != 0) {
    throw Error(ErrorCode::kBadInput, file.where(),
                fmt::format("{} heads of {} dimensions do not go with {} key/value heads", dimensions.heads,
                            dimensions.head_dimension, dimensions.key_value_heads));
  }
  return dimensions;
}

std::vector<SourceTensor> translate_tensors(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions,
                                            GgufOptionalParts& parts) {
  std::vector<SourceTensor> tensors;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name == kRotaryFactors) continue;
    auto named = find_named_row(family, dimensions, tensor.name);
    if (!named) {
      throw Error(ErrorCode::kUnsupported, fmt::format("{}: tensor '{}'", file.where(), printable(tensor.name)),
                  fmt::format("the architecture '{}' of {} layers has no such tensor", family.architecture, dimensions.layers),
                  "use the model's original folder");
    }
    note_part(named->row->part, parts);
    tensors.push_back(translate(file, tensor, std::move(*named), family, dimensions));
  }
  require_all(file, family, dimensions, parts);
  return tensors;
}

}  // namespace tritllm
