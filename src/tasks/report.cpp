#include "tasks/report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tasks/stripe_reader.h"
#include "tasks/tensor_policy.h"

namespace tritllm {
namespace {

Json tensor_json(const TensorRecord& record) {
  Json json = to_json(record);
  for (const char* const storage : {"file", "checksum", "source_checksum"}) json.erase(storage);
  return json;
}

Json plain_json(const PlainError& error) {
  const double decibels = codec::sqnr_db_from_relative_mse(error.relative_mse());
  return {{"relative_mse", error.relative_mse()},
          {"sqnr_db", std::isfinite(decibels) ? Json(decibels) : Json(nullptr)},
          {"max_abs_error", error.largest_error}};
}

}  // namespace

ModelError model_error(const std::vector<TensorRecord>& tensors) {
  double weight_energy = 0, error_energy = 0;
  for (const TensorRecord& record : tensors) {
    if (record.fate != Fate::kTernary) continue;
    weight_energy += record.error.weight_energy;
    error_energy += record.error.weight_energy * record.error.relative_mse;
  }
  ModelError error;
  if (weight_energy > 0) error.relative_mse = error_energy / weight_energy;
  if (error_energy > 0) error.sqnr_db = codec::sqnr_db_from_relative_mse(error.relative_mse);
  return error;
}

bool is_plain_loss(const TensorRecord& record, const PlainError& plain, double decibels) {
  constexpr double kRoundingOfHalf = 60.0;  // dB: a tensor of normal FP16 numbers loses less
  if (!(plain.error_energy > 0)) return false;
  const double before = record.fate == Fate::kTernary ? record.error.sqnr_db.value_or(kRoundingOfHalf) : kRoundingOfHalf;
  return codec::sqnr_db_from_relative_mse(plain.relative_mse()) < std::min(before, kRoundingOfHalf) - decibels;
}

Json kept_embeddings(const Manifest& manifest, const Json& config, uint64_t packed_bytes) {
  constexpr int kDepth = 4;  // costs next to nothing in quality (docs/quality.md)
  const TensorRoles roles(config);
  uint64_t kept = 0, packed = 0;
  bool embedding = false, head = false;
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate != Fate::kKept) continue;
    const ElementType type = *element_type_from_safetensors(record.type);
    const SourceTensor tensor{.name = record.name, .shape = record.shape, .type = type, .bytes = {}, .place = record.name};
    const TensorRole role = roles.of(tensor);
    if (role != TensorRole::kEmbedding && role != TensorRole::kHead) continue;
    (role == TensorRole::kHead ? head : embedding) = true;
    kept += tensor.elements() * layout_of(type).block_bytes;
    packed += codec_shape(tensor).stored_bytes(kDepth);
  }
  if (kept == 0 || packed_bytes == 0) return nullptr;
  return {{"bytes", kept}, {"embedding", embedding}, {"head", head}, {"packed_bytes_if_packed", packed_bytes - kept + packed}};
}

Json report_json(const Manifest& manifest, const RunCost& cost, const FolderBytes& bytes,
                 const std::map<std::string, PlainError>& plain) {
  uint64_t elements = 0;
  Json tensors = Json::array();
  PlainError plain_sum;
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate != Fate::kTied) elements += record.elements();
    tensors.push_back(tensor_json(record));
    const auto found = plain.find(record.name);
    if (found == plain.end()) continue;
    if (record.fate == Fate::kTernary) plain_sum.add(found->second);
    if (is_plain_loss(record, found->second, 0.01)) tensors.back()["model"] = plain_json(found->second);
  }
  const ModelError error = model_error(manifest.tensors);
  const auto file_bits = [&](uint64_t file_bytes) {
    return file_bytes == 0 ? Json(nullptr) : Json(8.0 * static_cast<double>(file_bytes) / static_cast<double>(elements));
  };
  return {{"recipe", manifest.recipe},
          {"fingerprint", manifest.fingerprint},
          {"tool_version", manifest.tool_version},
          {"source", {{"name", manifest.source_name}, {"kind", manifest.source_kind}, {"digest", manifest.source_digest}}},
          {"nominal_bits_per_weight", manifest.nominal_bits_per_weight},
          {"stored_bits_per_weight", manifest.stored_bits_per_weight},
          {"file_bits_per_weight", file_bits(bytes.packed)},
          {"packed_bytes", bytes.packed},
          {"model_bytes", bytes.model},
          {"weights", bits_per_weight(manifest.tensors).ternary_weights},
          {"all_weights", elements},
          {"relative_mse", error.relative_mse},
          {"sqnr_db", error.sqnr_db ? Json(*error.sqnr_db) : Json(nullptr)},
          {"model_error", plain.empty() ? Json(nullptr) : plain_json(plain_sum)},
          {"seconds", cost.seconds},
          {"thread_seconds", cost.thread_seconds},
          {"threads", cost.threads},
          {"weights_per_thread_second",
           cost.thread_seconds > 0 ? Json(static_cast<double>(cost.quantised_weights) / cost.thread_seconds) : Json(nullptr)},
          {"tensors", std::move(tensors)}};
}

}  // namespace tritllm
