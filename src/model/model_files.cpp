#include "model/model_files.h"

#include <fmt/format.h>

#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "io/hf_folder.h"
#include "io/packed_checkpoint.h"
#include "io/parallel_loop.h"

namespace tritllm {

namespace fs = std::filesystem;

namespace {

SourceTensor kept_tensor(const PackedCheckpoint& checkpoint, const TensorRecord& record) {
  SourceTensor tensor{};
  tensor.name = record.name;
  tensor.shape = record.shape;
  tensor.type = *element_type_from_safetensors(record.type);
  tensor.bytes = checkpoint.kept(record);
  tensor.place = checkpoint.place(record);
  return tensor;
}

ModelFiles open_packed(const fs::path& folder, ThreadPool& pool) {
  const auto checkpoint = std::make_shared<PackedCheckpoint>(PackedCheckpoint::open(folder, loop_over(pool)));
  if (checkpoint->manifest().part) {
    throw Error(ErrorCode::kUnsupported, folder.string(), "holds only a part of the model", "merge all parts first");
  }
  ModelFiles files;
  files.path = folder;
  files.config_place = (folder / "config.json").string();
  files.config = parse_json(read_text_file(files.config_place), files.config_place);
  files.side_files = read_side_files(folder);
  files.warnings = checkpoint->warnings();
  for (const TensorRecord& record : checkpoint->manifest().tensors) {
    if (record.fate == Fate::kKept) files.weights.emplace(record.name, kept_tensor(*checkpoint, record));
    if (record.fate != Fate::kTernary) continue;
    const TernaryMatrix matrix = checkpoint->matrix(record);
    validate_matrix(matrix, checkpoint->place(record), loop_over(pool));
    files.weights.emplace(record.name, matrix);
  }
  for (const TensorRecord& record : checkpoint->manifest().tensors) {
    if (record.fate == Fate::kTied) files.weights.emplace(record.name, files.weights.at(record.tied_to));
  }
  files.owner = checkpoint;
  return files;
}

ModelFiles open_dense(const fs::path& path) {
  const auto source = std::make_shared<ModelSource>(open_model(path));
  ModelFiles files;
  files.path = path;
  files.config = source->config;
  files.config_place = source->kind == "hf_folder" ? (path / "config.json").string() : path.string();
  files.side_files = source->side_files;
  files.warnings = source->warnings;
  for (const SourceTensor& tensor : source->tensors) files.weights.emplace(tensor.name, tensor);
  files.owner = source;
  return files;
}

}  // namespace

ModelFiles open_model_files(const fs::path& path, ThreadPool& pool) {
  return is_packed_checkpoint(path) ? open_packed(path, pool) : open_dense(path);
}

std::string weight_place(const ModelFiles& files, const std::string& name) {
  return fmt::format("{}: tensor '{}'", files.path.string(), printable(name));
}

}  // namespace tritllm
