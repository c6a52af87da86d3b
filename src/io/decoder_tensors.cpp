// Owns the table behind decoder_tensors.h, a row for each part.
#include "io/decoder_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace tritllm {
namespace {

enum class Extent : uint8_t { kOne, kVocabulary, kHidden, kFeedForward, kQuery, kKeyValue, kHead };

struct Row {
  DecoderPart part;
  std::string_view name;       // after "model.layers.N." for a layer's tensor
  std::string_view gguf_name;  // after "blk.N."
  DecoderRole role;
  Extent rows, columns = Extent::kOne;  // one column: a vector
  DecoderSplit split = DecoderSplit::kNone;
  bool rotated = false;
};

constexpr std::string_view kLayerPrefix = "model.layers.", kGgufLayerPrefix = "blk.";
// A model with norms after its blocks uses the usual name of the norm before the feed-forward block for the one after attention.
constexpr std::string_view kSandwichFeedForwardNorm = "pre_feedforward_layernorm.weight";

using Part = DecoderPart;
using Role = DecoderRole;
using Split = DecoderSplit;

constexpr std::array kRows{
    Row{Part::kEmbedding, "model.embed_tokens.weight", "token_embd.weight", Role::kEmbedding, Extent::kVocabulary, Extent::kHidden},
    Row{Part::kFinalNorm, "model.norm.weight", "output_norm.weight", Role::kNorm, Extent::kHidden},
    Row{Part::kHead, "lm_head.weight", "output.weight", Role::kHead, Extent::kVocabulary, Extent::kHidden, Split::kRows},
    Row{Part::kAttentionNorm, "input_layernorm.weight", "attn_norm.weight", Role::kNorm, Extent::kHidden},
    Row{Part::kQuery, "self_attn.q_proj.weight", "attn_q.weight", Role::kMatrix, Extent::kQuery, Extent::kHidden, Split::kRows,
        true},
    Row{Part::kKey, "self_attn.k_proj.weight", "attn_k.weight", Role::kMatrix, Extent::kKeyValue, Extent::kHidden, Split::kRows,
        true},
    Row{Part::kValue, "self_attn.v_proj.weight", "attn_v.weight", Role::kMatrix, Extent::kKeyValue, Extent::kHidden, Split::kRows},
    Row{Part::kOutput, "self_attn.o_proj.weight", "attn_output.weight", Role::kMatrix, Extent::kHidden, Extent::kQuery,
        Split::kColumns},
    Row{Part::kQueryBias, "self_attn.q_proj.bias", "attn_q.bias", Role::kBias, Extent::kQuery, Extent::kOne, Split::kRows, true},
    Row{Part::kKeyBias, "self_attn.k_proj.bias", "attn_k.bias", Role::kBias, Extent::kKeyValue, Extent::kOne, Split::kRows, true},
    Row{Part::kValueBias, "self_attn.v_proj.bias", "attn_v.bias", Role::kBias, Extent::kKeyValue, Extent::kOne, Split::kRows},
    Row{Part::kOutputBias, "self_attn.o_proj.bias", "attn_output.bias", Role::kBias, Extent::kHidden},
    Row{Part::kQueryNorm, "self_attn.q_norm.weight", "attn_q_norm.weight", Role::kNorm, Extent::kHead},
    Row{Part::kKeyNorm, "self_attn.k_norm.weight", "attn_k_norm.weight", Role::kNorm, Extent::kHead},
    Row{Part::kAfterAttentionNorm, "post_attention_layernorm.weight", "post_attention_norm.weight", Role::kNorm, Extent::kHidden},
    Row{Part::kAttentionInnerNorm, "self_attn.attn_sub_norm.weight", "attn_sub_norm.weight", Role::kNorm, Extent::kQuery},
    Row{Part::kFeedForwardNorm, "post_attention_layernorm.weight", "ffn_norm.weight", Role::kNorm, Extent::kHidden},
    Row{Part::kGate, "mlp.gate_proj.weight", "ffn_gate.weight", Role::kMatrix, Extent::kFeedForward, Extent::kHidden, Split::kRows},
    Row{Part::kUp, "mlp.up_proj.weight", "ffn_up.weight", Role::kMatrix, Extent::kFeedForward, Extent::kHidden, Split::kRows},
    Row{Part::kDown, "mlp.down_proj.weight", "ffn_down.weight", Role::kMatrix, Extent::kHidden, Extent::kFeedForward,
        Split::kColumns},
    Row{Part::kGateBias, "mlp.gate_proj.bias", "ffn_gate.bias", Role::kBias, Extent::kFeedForward, Extent::kOne, Split::kRows},
    Row{Part::kUpBias, "mlp.up_proj.bias", "ffn_up.bias", Role::kBias, Extent::kFeedForward, Extent::kOne, Split::kRows},
    Row{Part::kDownBias, "mlp.down_proj.bias", "ffn_down.bias", Role::kBias, Extent::kHidden},
    Row{Part::kAfterFeedForwardNorm, "post_feedforward_layernorm.weight", "post_ffw_norm.weight", Role::kNorm, Extent::kHidden},
    Row{Part::kFeedForwardInnerNorm, "mlp.ffn_sub_norm.weight", "ffn_sub_norm.weight", Role::kNorm, Extent::kFeedForward},
};

constexpr bool rows_follow_enumeration() {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].part != static_cast<DecoderPart>(i)) return false;
  }
  return true;
}
static_assert(rows_follow_enumeration());

bool is_of_layer(DecoderPart part) noexcept { return part >= DecoderPart::kAttentionNorm; }

uint64_t extent_of(Extent extent, const DecoderShape& shape) noexcept {
  switch (extent) {
    case Extent::kOne: return 1;
    case Extent::kVocabulary: return shape.vocabulary;
    case Extent::kHidden: return shape.hidden;
    case Extent::kFeedForward: return shape.feed_forward;
    case Extent::kQuery: return shape.query_width;
    case Extent::kKeyValue: return shape.key_value_width;
    case Extent::kHead: return shape.head_width;
  }
  return 0;
}

std::string_view name_of(const Row& row, const DecoderShape& shape) noexcept {
  return row.part == DecoderPart::kFeedForwardNorm && shape.norms_after_blocks ? kSandwichFeedForwardNorm : row.name;
}

}  // namespace

bool has_part(const DecoderShape& shape, DecoderPart part) noexcept {
  switch (part) {
    case DecoderPart::kHead: return shape.own_head;
    case DecoderPart::kQueryBias:
    case DecoderPart::kKeyBias:
    case DecoderPart::kValueBias: return shape.query_key_value_biases;
    case DecoderPart::kOutputBias: return shape.output_bias;
    case DecoderPart::kQueryNorm:
    case DecoderPart::kKeyNorm: return shape.query_key_norm;
    case DecoderPart::kGateBias:
    case DecoderPart::kUpBias:
    case DecoderPart::kDownBias: return shape.feed_forward_biases;
    case DecoderPart::kAfterAttentionNorm:
    case DecoderPart::kAfterFeedForwardNorm: return shape.norms_after_blocks;
    case DecoderPart::kAttentionInnerNorm:
    case DecoderPart::kFeedForwardInnerNorm: return shape.norms_inside_blocks;
    default: return true;
  }
}

DecoderTensor decoder_tensor(const DecoderShape& shape, DecoderPart part, uint32_t layer) {
  const Row& row = kRows[static_cast<size_t>(part)];
  DecoderTensor tensor{.part = part,
                       .layer = std::nullopt,
                       .name = std::string(name_of(row, shape)),
                       .gguf_name = std::string(row.gguf_name),
                       .shape = {extent_of(row.rows, shape)},
                       .role = row.role,
                       .split = row.split,
                       .rotated = row.rotated};
  if (row.columns != Extent::kOne) tensor.shape.push_back(extent_of(row.columns, shape));
  if (is_of_layer(part)) {
    tensor.layer = layer;
    tensor.name = fmt::format("{}{}.{}", kLayerPrefix, layer, tensor.name);
    tensor.gguf_name = fmt::format("{}{}.{}", kGgufLayerPrefix, layer, tensor.gguf_name);
  }
  return tensor;
}

void for_each_tensor(const DecoderShape& shape, const std::function<void(const DecoderTensor&)>& visit) {
  for (const Row& row : kRows) {
    if (!is_of_layer(row.part) && has_part(shape, row.part)) visit(decoder_tensor(shape, row.part));
  }
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (const Row& row : kRows) {
      if (is_of_layer(row.part) && has_part(shape, row.part)) visit(decoder_tensor(shape, row.part, layer));
    }
  }
}

std::optional<DecoderTensor> find_gguf_tensor(const DecoderShape& shape, std::string_view gguf_name) {
  const bool in_layer = gguf_name.starts_with(kGgufLayerPrefix);
  uint32_t layer = 0;
  if (in_layer) {
    gguf_name.remove_prefix(kGgufLayerPrefix.size());
    const char* const last = gguf_name.data() + gguf_name.size();
    const auto [end, status] = std::from_chars(gguf_name.data(), last, layer);
    const auto digits = static_cast<size_t>(end - gguf_name.data());
    if (status != std::errc() || end == last || *end != '.' || (gguf_name[0] == '0' && digits > 1)) return std::nullopt;
    if (layer >= shape.layers) return std::nullopt;
    gguf_name.remove_prefix(digits + 1);
  }
  const auto* const row = std::ranges::find_if(
      kRows, [&](const Row& candidate) { return candidate.gguf_name == gguf_name && is_of_layer(candidate.part) == in_layer; });
  if (row == kRows.end()) return std::nullopt;
  return decoder_tensor(shape, row->part, layer);
}

}  // namespace tritllm
