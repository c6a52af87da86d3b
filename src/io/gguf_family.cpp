// Owns the rows of gguf_family.h and the check of a file against its row.
#include "io/gguf_family.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "core/error.h"
#include "io/decoder_tensors.h"
#include "io/gguf_config.h"

namespace tritllm {
namespace {

constexpr uint64_t kLargestDimension = std::numeric_limits<int32_t>::max();
constexpr std::string_view kRotaryFactors = "rope_freqs.weight";  // becomes part of config.json (gguf_rope.h)

const std::array kFamilies{
    GgufFamily{.architecture = "llama",
               .model_type = "llama",
               .model_class = "LlamaForCausalLM",
               .attention_biases = GgufBiases::kByFile,
               .may_have_feed_forward_biases = true,
               .interleaves_heads = true,
               .add_config = add_llama_config},
    GgufFamily{.architecture = "qwen2",
               .model_type = "qwen2",
               .model_class = "Qwen2ForCausalLM",
               .attention_biases = GgufBiases::kInputsOnly,
               .add_config = add_qwen2_config},
    GgufFamily{.architecture = "qwen3",
               .model_type = "qwen3",
               .model_class = "Qwen3ForCausalLM",
               .attention_biases = GgufBiases::kByFile,
               .query_key_norm = true,
               .add_config = add_qwen3_config},
    GgufFamily{.architecture = "gemma3",
               .model_type = "gemma3_text",
               .model_class = "Gemma3ForCausalLM",
               .query_key_norm = true,
               .norms_after_blocks = true,
               .norm_offset = -1.0f,
               .spaces = GgufSpaces::kGemma,
               .windows_every_layer_alike = false,
               .add_config = add_gemma3_config},
};

DecoderShape shape_of(const GgufFamily& family, const GgufDimensions& dimensions, const GgufOptionalParts& parts) {
  return {.vocabulary = dimensions.vocabulary,
          .hidden = dimensions.hidden,
          .feed_forward = dimensions.feed_forward,
          .layers = dimensions.layers,
          .query_width = dimensions.heads * dimensions.head_dimension,
          .key_value_width = dimensions.key_value_heads * dimensions.head_dimension,
          .head_width = dimensions.head_dimension,
          .query_key_value_biases = parts.attention_biases || family.attention_biases == GgufBiases::kInputsOnly,
          .output_bias = parts.attention_biases,
          .feed_forward_biases = parts.feed_forward_biases,
          .query_key_norm = family.query_key_norm,
          .norms_after_blocks = family.norms_after_blocks,
          .own_head = parts.head};
}

// Which optional tensors the file has. One bias of a kind asks for all of them.
GgufOptionalParts parts_of(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions) {
  const GgufOptionalParts every{.attention_biases = family.attention_biases == GgufBiases::kByFile,
                                .feed_forward_biases = family.may_have_feed_forward_biases,
                                .head = true};
  const DecoderShape largest = shape_of(family, dimensions, every);
  GgufOptionalParts parts;
  for (const GgufTensor& tensor : file.tensors()) {
    const auto found = find_gguf_tensor(largest, tensor.name);
    if (!found || !has_part(largest, found->part)) continue;
    parts.head = parts.head || found->part == DecoderPart::kHead;
    if (found->role != DecoderRole::kBias) continue;
    const bool of_feed_forward = found->part >= DecoderPart::kGateBias;
    if (of_feed_forward) parts.feed_forward_biases = true;
    else if (every.attention_biases) parts.attention_biases = true;
  }
  return parts;
}

void check_extents(const std::string& place, const GgufTensor& tensor, const std::vector<uint64_t>& expected) {
  const std::vector<uint64_t> found(std::reverse_iterator(tensor.dimensions.begin() + tensor.dimension_count),
                                    std::reverse_iterator(tensor.dimensions.begin()));
  if (found == expected) return;
  throw Error(ErrorCode::kBadInput, place,
              fmt::format("expected the shape [{}] that the metadata asks for, found [{}]", fmt::join(expected, ", "),
                          fmt::join(found, ", ")));
}

uint32_t interleaved_heads(const DecoderTensor& row, const GgufFamily& family, const GgufDimensions& dimensions) {
  if (!family.interleaves_heads || !row.rotated) return 0;
  const bool is_query = row.part == DecoderPart::kQuery || row.part == DecoderPart::kQueryBias;
  return static_cast<uint32_t>(is_query ? dimensions.heads : dimensions.key_value_heads);
}

SourceTensor translate(const GgufFile& file, const GgufTensor& tensor, DecoderTensor row, const GgufFamily& family,
                       const GgufDimensions& dimensions) {
  SourceTensor source;
  source.interleaved_heads = interleaved_heads(row, family, dimensions);
  source.offset = row.role == DecoderRole::kNorm ? family.norm_offset : 0.0f;
  source.name = std::move(row.name);
  source.shape = std::move(row.shape);
  source.type = tensor.type;
  source.bytes = tensor.bytes;
  source.place = fmt::format("{}: tensor '{}'", file.where(), tensor.name);
  check_extents(source.place, tensor, source.shape);
  return source;
}

void require_tensor(const GgufFile& file, const std::string& name) {
  if (!file.find_tensor(name)) throw Error(ErrorCode::kNotFound, file.where(), fmt::format("the tensor '{}' is missing", name));
}

// Settings of other architectures that llama.cpp's converter writes only where they change the result.
void refuse_other_graphs(const GgufFile& file, const GgufFamily& family) {
  struct Setting {
    std::string_view suffix;
    float neutral;
  };
  static constexpr Setting kSettings[] = {{"attention.scale", 0.0f},
                                          {"logit_scale", 1.0f},
                                          {"embedding_scale", 1.0f},
                                          {"residual_scale", 1.0f},
                                          {"attention.clamp_kqv", 0.0f},
                                          {"attention.max_alibi_bias", 0.0f},
                                          {"attention.temperature_scale", 0.0f}};
  const auto refuse = [&](const std::string& key, const std::string& found) {
    throw Error(ErrorCode::kUnsupported, fmt::format("{}: key '{}'", file.where(), key),
                fmt::format("is {}, which models of the architecture '{}' do not have", found, family.architecture),
                "use the model's original folder");
  };
  for (const Setting& setting : kSettings) {
    const std::string key = architecture_key(file, setting.suffix);
    if (const auto value = file.real(key); value && *value != 0.0f && *value != setting.neutral)
      refuse(key, fmt::to_string(*value));
  }
  const bool may_cap = family.spaces == GgufSpaces::kGemma;
  for (const std::string_view suffix : {"final_logit_softcapping", "attn_logit_softcapping"}) {
    const std::string key = architecture_key(file, suffix);
    if (may_cap && suffix.starts_with("final")) continue;
    if (const auto value = file.real(key); value && *value != 0.0f) refuse(key, fmt::to_string(*value));
  }
  if (const std::string key = architecture_key(file, "attention.causal"); !file.boolean(key).value_or(true)) refuse(key, "false");
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
  refuse_other_graphs(file, family);
  parts = parts_of(file, family, dimensions);
  const DecoderShape shape = shape_of(family, dimensions, parts);
  std::vector<SourceTensor> tensors;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name == kRotaryFactors) continue;
    auto row = find_gguf_tensor(shape, tensor.name);
    if (!row || !has_part(shape, row->part)) {
      throw Error(ErrorCode::kUnsupported, fmt::format("{}: tensor '{}'", file.where(), printable(tensor.name)),
                  fmt::format("the architecture '{}' of {} layers has no such tensor", family.architecture, dimensions.layers),
                  "use the model's original folder");
    }
    tensors.push_back(translate(file, tensor, std::move(*row), family, dimensions));
  }
  // Stops at the first gap, so that a declared number of layers costs no more than the tensors that are there.
  for_each_tensor(shape, [&](const DecoderTensor& tensor) { require_tensor(file, tensor.gguf_name); });
  return tensors;
}

}  // namespace tritllm
