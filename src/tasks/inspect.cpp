#include "tasks/inspect.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

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

Inspection inspect_packed(const std::filesystem::path& folder) {
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
  const auto tensors = std::make_shared<const Json>(std::move(json["tensors"]));
  json.erase("tensors");
  Json summary{{"kind", "packed"}};
  summary.update(json);
  summary["files"] = std::move(files);
  return {std::move(summary), tensors->size(), [tensors](size_t i) { return (*tensors)[i]; }};
}

// A model of types that are not read: names, shapes and types, and what is wrong. Nothing where the types are not the trouble.
std::optional<Inspection> inspect_unread(const std::filesystem::path& path, const Error& problem) {
  const auto tensors = std::make_shared<const std::vector<ListedTensor>>(list_tensors(path));
  if (std::ranges::all_of(*tensors, &ListedTensor::is_read)) return std::nullopt;
  uint64_t elements = 0;
  for (const ListedTensor& tensor : *tensors) elements += checked_product(tensor.shape).value_or(0);
  const auto as_json = [tensors](size_t i) -> Json {
    const ListedTensor& tensor = (*tensors)[i];
    return {{"name", tensor.name}, {"shape", tensor.shape}, {"type", tensor.type}, {"is_read", tensor.is_read}};
  };
  return Inspection{{{"kind", "unread"}, {"problem", problem.what()}, {"all_weights", elements}}, tensors->size(), as_json};
}

Inspection inspect_source(const std::filesystem::path& path) {
  const auto model = std::make_shared<const ModelSource>(open_model(path));
  const auto roles = std::make_shared<const TensorRoles>(*model->config);
  uint64_t bytes = 0, elements = 0, matrix_weights = 0;
  for (const SourceTensor& tensor : model->tensors) {
    bytes += tensor.bytes.size();
    elements += tensor.elements();
    if (roles->of(tensor) == TensorRole::kMatrix) matrix_weights += tensor.elements();
  }
  const auto as_json = [model, roles](size_t i) -> Json {
    const SourceTensor& tensor = model->tensors[i];
    return {{"name", tensor.name},
            {"shape", tensor.shape},
            {"type", layout_of(tensor.type).name},
            {"role", role_name(roles->of(tensor))}};
  };
  Json warnings = model->warnings;
  for (const std::string& warning : model->quantising_warnings) warnings.push_back(warning);
  Json side_files = Json::array();
  for (const SideFile& file : model->side_files) side_files.push_back(file.name);
  const auto text = [](const std::optional<std::string>& value) { return value ? Json(*value) : Json(nullptr); };
  Json summary{{"kind", model->kind},
               {"architectures", model->config->value("architectures", Json::array())},
               {"model_type", model->config->value("model_type", Json(nullptr))},
               {"license", text(model->identity.license)},
               {"base_model", text(model->identity.hub_id)},
               {"all_weights", elements},
               {"matrix_weights", matrix_weights},
               {"weight_bytes", bytes},
               {"warnings", warnings},
               {"side_files", std::move(side_files)}};
  return {std::move(summary), model->tensors.size(), as_json};
}

}  // namespace

Json Inspection::whole() const {
  Json json = summary;
  Json& tensors = json["tensors"] = Json::array();
  for (size_t i = 0; i < tensor_count; ++i) tensors.push_back(tensor(i));
  return json;
}

Inspection inspect_model(const std::filesystem::path& named) {
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
