// Owns the opening of packed and of dense models, and what becomes of a head that config.json ties to the embedding.
#include "model/model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "io/decoder_tensors.h"
#include "io/hf_folder.h"
#include "io/model_folder.h"
#include "io/model_location.h"
#include "io/packed_checkpoint.h"
#include "io/parallel_loop.h"
#include "io/tied_head.h"

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

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.data() == b.data() || std::ranges::equal(a, b);
}

bool are_equal(const WeightSource& a, const WeightSource& b) {
  if (a.dense() != nullptr && b.dense() != nullptr) {
    return a.dense()->type == b.dense()->type && a.dense()->shape == b.dense()->shape &&
           same_bytes(a.dense()->bytes, b.dense()->bytes);
  }
  if (a.ternary() == nullptr || b.ternary() == nullptr) return false;
  const TernaryMatrix &x = *a.ternary(), &y = *b.ternary();
  return x.depth == y.depth && x.shape.rows == y.shape.rows && x.shape.columns == y.shape.columns && x.codebooks == y.codebooks &&
         same_bytes(std::as_bytes(x.trits), std::as_bytes(y.trits)) && same_bytes(std::as_bytes(x.scales), std::as_bytes(y.scales));
}

// Leaves a model whose config ties head and embedding with one of them, the embedding; or, where the two differ, with a config that
// does not tie them, as transformers 5 and vLLM load it.
void settle_tied_head(ModelFiles& files) {
  if (!config_ties_head(files.config)) return;
  const DecoderShape any{};
  const std::string embedding = decoder_tensor(any, DecoderPart::kEmbedding).name,
                    head = decoder_tensor(any, DecoderPart::kHead).name;
  const auto stored_head = files.weights.find(head), stored_embedding = files.weights.find(embedding);
  if (stored_head == files.weights.end()) return;
  if (stored_embedding == files.weights.end()) {
    files.weights.emplace(embedding, stored_head->second);
  } else if (!are_equal(stored_head->second, stored_embedding->second)) {
    untie_head(*files.config);
    files.warnings.emplace_back(kUntiedWarning);
    return;
  }
  files.weights.erase(head);
}

ModelFiles open_packed(const fs::path& folder, ThreadPool& pool) {
  const auto checkpoint = std::make_shared<PackedCheckpoint>(PackedCheckpoint::open(folder, loop_over(pool)));
  if (checkpoint->manifest().part) {
    throw Error(ErrorCode::kUnsupported, folder.string(), "holds only a part of the model", "merge all parts first");
  }
  ModelFiles files;
  files.path = folder;
  files.config_place = (folder / "config.json").string();
  files.config = parse_python_json(read_model_file(folder, "config.json", kLargestConfig), files.config_place);
  files.side_files = read_side_files(folder);
  files.warnings = checkpoint->warnings();
  for (const TensorRecord& record : checkpoint->manifest().tensors) {
    if (record.fate == Fate::kKept) files.weights.emplace(record.name, kept_tensor(*checkpoint, record));
    if (record.fate != Fate::kTernary) continue;
    files.weights.emplace(record.name, checkpoint->matrix(record));
  }
  for (const TensorRecord& record : checkpoint->manifest().tensors) {
    if (record.fate == Fate::kTied) files.weights.emplace(record.name, files.weights.at(record.tied_to));
  }
  settle_tied_head(files);
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
  settle_tied_head(files);
  files.owner = source;
  return files;
}

}  // namespace

ModelFiles open_model_files(const fs::path& named, ThreadPool& pool) {
  const fs::path path = locate_model(named);
  return is_packed_checkpoint(path) ? open_packed(path, pool) : open_dense(path);
}

uint64_t weight_bytes(const ModelFiles& files) {
  uint64_t bytes = 0;
  for (const auto& [name, source] : files.weights) bytes += source.bytes();
  return bytes;
}

std::string weight_place(const ModelFiles& files, const std::string& name) {
  return fmt::format("{}: tensor '{}'", files.path.string(), printable(name));
}

}  // namespace tritllm
