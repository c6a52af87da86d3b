#include "tasks/report.h"

#include <utility>

namespace tritllm {
namespace {

Json tensor_json(const TensorRecord& record) {
  Json json = to_json(record);
  for (const char* const storage : {"file", "checksum", "source_checksum"}) json.erase(storage);
  return json;
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

Json report_json(const Manifest& manifest, const RunCost& cost, const FolderBytes& bytes) {
  uint64_t elements = 0;
  Json tensors = Json::array();
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate != Fate::kTied) elements += record.elements();
    tensors.push_back(tensor_json(record));
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
          {"seconds", cost.seconds},
          {"thread_seconds", cost.thread_seconds},
          {"threads", cost.threads},
          {"weights_per_thread_second",
           cost.thread_seconds > 0 ? Json(static_cast<double>(cost.quantised_weights) / cost.thread_seconds) : Json(nullptr)},
          {"tensors", std::move(tensors)}};
}

}  // namespace tritllm
