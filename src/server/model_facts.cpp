#include "server/model_facts.h"

#include <optional>

#include "core/error.h"
#include "io/manifest.h"
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

}  // namespace

Json model_facts(const std::filesystem::path& path, const ModelConfig& config) {
  Json facts = {{"architecture", config.family->architecture},
                {"layers", config.layer_count},
                {"hidden_size", config.hidden},
                {"vocabulary", config.vocabulary},
                {"trained_context", config.trained_positions}};
  for (const char* const name : {"parameters", "stored_bytes", "recipe", "nominal_bits_per_weight", "stored_bits_per_weight",
                                 "source", "base_model", "license"}) {
    facts[name] = nullptr;
  }
  try {
    const std::filesystem::path found = locate_model(path);
    if (is_packed_checkpoint(found)) add_packed_facts(read_manifest(found), facts);
    else add_plain_facts(open_model(found), facts);
  } catch (const Error&) {
    // The model runs; its page tells less.
  }
  return facts;
}

}  // namespace tritllm::server
