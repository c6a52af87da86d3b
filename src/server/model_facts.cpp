#include "server/model_facts.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/json.h"
#include "engine/language_model.h"
#include "io/hf_folder.h"
#include "io/manifest.h"
#include "io/model_folder.h"
#include "io/model_location.h"
#include "io/model_source.h"
#include "io/packed_checkpoint.h"
#include "model/families.h"

namespace tritllm::server {
namespace {

template <typename Value>
Json value_or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// What the CPU holds of them: the quantised ones of a GGUF file and those whose rows it reorders become float32. A CUDA device has
// halves throughout.
uint64_t expanded_bytes(const std::vector<SourceTensor>& tensors) {
  uint64_t bytes = 0;
  for (const SourceTensor& tensor : tensors) {
    const bool is_half = tensor.type == ElementType::kF16 || tensor.type == ElementType::kBF16;
    bytes += tensor.elements() * (is_half && tensor.interleaved_heads == 0 ? 2 : 4);
  }
  return bytes;
}

uint64_t bytes_of(const std::vector<MappedFile>& files) {
  uint64_t bytes = 0;
  for (const MappedFile& file : files) bytes += file.bytes().size();
  return bytes;
}

void add_packed_facts(const Manifest& manifest, Json& facts) {
  uint64_t parameters = 0, bytes = 0;
  for (const TensorRecord& tensor : manifest.tensors) {
    if (tensor.fate != Fate::kTied) parameters += tensor.elements();
  }
  for (const FileRecord& file : manifest.files) {
    if (file.role == FileRole::kWeights) bytes += file.bytes;
  }
  facts["parameters"] = parameters;
  facts["stored_bytes"] = bytes;
  facts["recipe"] = manifest.recipe;
  facts["nominal_bits_per_weight"] = manifest.nominal_bits_per_weight;
  facts["stored_bits_per_weight"] = manifest.stored_bits_per_weight;
  facts["source"] = manifest.source_name;
  facts["base_model"] = value_or_null(manifest.card.base_model);
  facts["license"] = value_or_null(manifest.card.license);
}

void add_plain_facts(const ModelSource& source, Json& facts) {
  uint64_t parameters = 0;
  for (const SourceTensor& tensor : source.tensors) parameters += tensor.elements();
  facts["parameters"] = parameters;
  facts["stored_bytes"] = bytes_of(source.files);
  facts["base_model"] = value_or_null(source.identity.hub_id);
  facts["license"] = value_or_null(source.identity.license);
}

ModelConfig config_of_packed(const std::filesystem::path& folder) {
  const std::string place = (folder / "config.json").string();
  return read_model_config(parse_python_json(read_model_file(folder, "config.json", kLargestConfig), place), place);
}

uint64_t cache_bytes_per_token(const ModelConfig& config, CacheType type) {
  const uint64_t element = type == CacheType::kFloat32 ? 4 : type == CacheType::kFloat16 ? 2 : 1;
  const uint64_t scale = element == 1 ? sizeof(float) : 0;  // of each head
  return 2 * uint64_t{config.layer_count} * config.key_value_heads * (config.head_width * element + scale);
}

}  // namespace

ModelFacts read_model_facts(const std::filesystem::path& path, CacheType cache, uint32_t asked_context) {
  const std::filesystem::path found = locate_model(path);
  const bool is_packed = is_packed_checkpoint(found);
  Json facts = Json::object();
  for (const char* const name : {"parameters", "stored_bytes", "recipe", "nominal_bits_per_weight", "stored_bits_per_weight",
                                 "source", "base_model", "license"}) {
    facts[name] = nullptr;
  }
  std::optional<ModelConfig> config;
  uint64_t least = 0, expected = 0;
  if (is_packed) {
    add_packed_facts(read_manifest(found), facts);
    least = facts["stored_bytes"].get<uint64_t>();
    expected = least / 4 * 5;  // devices' layouts are wider
    config = config_of_packed(found);
  } else {
    const ModelSource source = open_model(found);
    add_plain_facts(source, facts);
    least = 2 * facts["parameters"].get<uint64_t>();
    expected = expanded_bytes(source.tensors);
    config = read_model_config(*source.config, found.string());
  }
  facts["architecture"] = config->family->architecture;
  facts["layers"] = config->layer_count;
  facts["hidden_size"] = config->hidden;
  facts["vocabulary"] = config->vocabulary;
  facts["trained_context"] = config->trained_positions;
  return {.json = std::move(facts),
          .least_weight_bytes = least,
          .expected_weight_bytes = expected,
          .cache_bytes_per_token = cache_bytes_per_token(*config, cache),
          .context = asked_context != 0 ? asked_context : std::min(config->trained_positions, kUsualContext)};
}

}  // namespace tritllm::server
