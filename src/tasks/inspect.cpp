#include "tasks/inspect.h"

#include <cstdint>
#include <optional>

#include "core/checked.h"
#include "core/error.h"
#include "io/manifest.h"
#include "io/model_location.h"
#include "io/model_source.h"
#include "io/packed_checkpoint.h"
#include "io/tensor_list.h"
#include "tasks/report.h"
#include "tasks/tensor_policy.h"

namespace tritllm {
namespace {

Json inspect_packed(const std::filesystem::path& folder) {
  const Manifest manifest = read_manifest(folder);
  FolderBytes bytes;
  for (const FileRecord& file : manifest.files) {
    if (file.role == FileRole::kWeights) bytes.packed += file.bytes;
  }
  Json json = report_json(manifest, {}, bytes);
  for (const char* const of_the_run : {"model_bytes", "seconds", "thread_seconds", "threads", "weights_per_thread_second"})
    json.erase(of_the_run);
  Json files = Json::array();
  for (const FileRecord& file : manifest.files)
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"checksum", file.checksum}});
  Json result{{"kind", "packed"}};
  result.update(json);
  result["files"] = std::move(files);
  return result;
}

// A model of types that are not read: names, shapes and types, and what is wrong. Nothing where the types are not the trouble.
std::optional<Json> inspect_unread(const std::filesystem::path& path, const Error& problem) {
  uint64_t elements = 0;
  bool all_read = true;
  Json tensors = Json::array();
  for (const ListedTensor& tensor : list_tensors(path)) {
    all_read = all_read && tensor.is_read;
    elements += checked_product(tensor.shape).value_or(0);
    tensors.push_back({{"name", tensor.name}, {"shape", tensor.shape}, {"type", tensor.type}, {"is_read", tensor.is_read}});
  }
  if (all_read) return std::nullopt;
  return Json{{"kind", "unread"}, {"problem", problem.what()}, {"all_weights", elements}, {"tensors", std::move(tensors)}};
}

Json inspect_source(const std::filesystem::path& path) {
  const ModelSource model = open_model(path);
  uint64_t bytes = 0, elements = 0, matrix_weights = 0;
  Json tensors = Json::array();
  const TensorRoles roles(model.config);
  for (const SourceTensor& tensor : model.tensors) {
    bytes += tensor.bytes.size();
    elements += tensor.elements();
    const TensorRole role = roles.of(tensor);
    if (role == TensorRole::kMatrix) matrix_weights += tensor.elements();
    tensors.push_back(
        {{"name", tensor.name}, {"shape", tensor.shape}, {"type", layout_of(tensor.type).name}, {"role", role_name(role)}});
  }
  Json warnings = model.warnings;
  for (const std::string& warning : model.quantising_warnings) warnings.push_back(warning);
  Json side_files = Json::array();
  for (const SideFile& file : model.side_files) side_files.push_back(file.name);
  const auto text = [](const std::optional<std::string>& value) { return value ? Json(*value) : Json(nullptr); };
  return {{"kind", model.kind},
          {"architectures", model.config->value("architectures", Json::array())},
          {"model_type", model.config->value("model_type", Json(nullptr))},
          {"license", text(model.identity.license)},
          {"base_model", text(model.identity.hub_id)},
          {"all_weights", elements},
          {"matrix_weights", matrix_weights},
          {"weight_bytes", bytes},
          {"warnings", warnings},
          {"side_files", std::move(side_files)},
          {"tensors", std::move(tensors)}};
}

}  // namespace

Json inspect_model(const std::filesystem::path& named) {
  const std::filesystem::path path = locate_model(named);
  if (is_packed_checkpoint(path)) return inspect_packed(path);
  try {
    return inspect_source(path);
  } catch (const Error& error) {
    auto listed = error.code() == ErrorCode::kUnsupported ? inspect_unread(path, error) : std::nullopt;
    if (!listed) throw;
    return std::move(*listed);
  }
}

}  // namespace tritllm
