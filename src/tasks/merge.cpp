#include "tasks/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "io/folder_mark.h"
#include "io/hf_folder.h"
#include "io/model_folder.h"
#include "io/model_source.h"
#include "io/packed_checkpoint.h"
#include "io/parallel_loop.h"
#include "tasks/output_folder.h"
#include "tasks/report.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

struct PlacedTensor {
  const PackedCheckpoint* part;
  const TensorRecord* record;
};

std::map<std::string, std::vector<fs::path>> find_parts(const std::vector<fs::path>& folders) {
  std::map<std::string, std::vector<fs::path>> parts;
  for (const fs::path& folder : folders) {
    for (const std::string& config : folder_entries(folder)) {
      if (kind_of_target(folder / config) != FileKind::kFolder) continue;
      for (const std::string& name : folder_entries(folder / config)) {
        const fs::path path = folder / config / name;
        if (!name.starts_with("part-") || name.ends_with(".partial")) continue;
        if (kind_of_target(path) == FileKind::kFolder && has_model_folder(folder, config + "/" + name) &&
            is_packed_checkpoint(path))
          parts[config].push_back(path);
      }
    }
  }
  if (parts.empty()) {
    throw Error(ErrorCode::kNotFound, folders.front().string(), "holds no finished part of a model",
                "quantise the model in parts first (options.output.part)");
  }
  return parts;
}

// All parts of one configuration, opened and checked against one another.
class Parts {
 public:
  Parts(std::string config, std::vector<fs::path> folders, ThreadPool& pool) : config_(std::move(config)) {
    std::sort(folders.begin(), folders.end());
    for (const fs::path& folder : folders) parts_.push_back(PackedCheckpoint::open(folder, loop_over(pool)));
    check_parts();
    place_tensors();
  }

  const std::vector<PlacedTensor>& tensors() const noexcept { return tensors_; }
  const PackedCheckpoint& first() const noexcept { return parts_.front(); }
  std::vector<fs::path> folders() const {
    std::vector<fs::path> folders;
    for (const PackedCheckpoint& part : parts_) folders.push_back(part.folder());
    return folders;
  }

  // What an FP16 folder cannot hold, of kept tensors and of matrices.
  void refuse_beyond_half() const {
    for (const PackedCheckpoint& part : parts_) {
      plain_units(part.manifest().tensors);
      refuse_matrices_beyond_half(part);
    }
  }

  Manifest manifest() const {
    Manifest whole = parts_.front().manifest();
    whole.part.reset();
    whole.files.clear();
    std::vector<TensorRecord> tensors;
    for (const PlacedTensor& tensor : tensors_) tensors.push_back(*tensor.record);
    check_tied(tensors, config_);  // each part by itself may have left the other tensor to another
    set_tensors(whole, std::move(tensors));
    return whole;
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    throw Error(ErrorCode::kConflict, config_, problem, "make the missing or differing parts again");
  }

  void check_parts() const {
    const Manifest& reference = parts_.front().manifest();
    if (!reference.part) refuse("found a whole model where a part was expected");
    std::vector<bool> seen(reference.part->count);
    for (const PackedCheckpoint& part : parts_) {
      const Manifest& manifest = part.manifest();
      if (!manifest.part || manifest.fingerprint != reference.fingerprint || manifest.part->count != reference.part->count ||
          manifest.part->tensors != reference.part->tensors || manifest.tool_version != reference.tool_version) {
        refuse(fmt::format("{} and {} are parts of different runs", parts_.front().folder().string(), part.folder().string()));
      }
      if (seen[manifest.part->index - 1]) refuse(fmt::format("part {} stands in two folders", manifest.part->index));
      seen[manifest.part->index - 1] = true;
      if (!part.warnings().empty()) refuse(part.warnings().front());
    }
    const auto missing = std::find(seen.begin(), seen.end(), false);
    if (missing != seen.end()) refuse(fmt::format("part {} of {} is missing", missing - seen.begin() + 1, seen.size()));
  }

  void place_tensors() {
    std::map<uint64_t, PlacedTensor> placed;
    for (const PackedCheckpoint& part : parts_) {
      const Manifest& manifest = part.manifest();
      for (size_t i = 0; i < manifest.tensors.size(); ++i) {
        if (!placed.emplace(manifest.part->positions[i], PlacedTensor{&part, &manifest.tensors[i]}).second) {
          refuse(fmt::format("the tensor '{}' stands in two parts", printable(manifest.tensors[i].name)));
        }
      }
    }
    if (placed.size() != parts_.front().manifest().part->tensors) refuse("the parts do not hold every tensor of the model");
    for (const auto& [position, tensor] : placed) tensors_.push_back(tensor);
  }

  std::string config_;
  std::vector<PackedCheckpoint> parts_;
  std::vector<PlacedTensor> tensors_;  // in the source's order
};

// The stored tensors of a record, as in its part: old stacks keep the one codebook that their experts share.
std::vector<PlannedTensor> stored_tensors(const PlacedTensor& tensor) {
  const TensorRecord& record = *tensor.record;
  if (record.fate == Fate::kTied) return {};
  if (record.fate == Fate::kKept) return {{record.name, *element_type_from_safetensors(record.type), record.shape}};
  return matrix_tensors(record.name, tensor.part->matrix(record).shape, record.depth);
}

void copy_tensor(const PlacedTensor& tensor, FolderWriter* packed, FolderWriter* plain, ThreadPool& pool) {
  const TensorRecord& record = *tensor.record;
  if (record.fate == Fate::kTied) return;
  if (tensor.part->checksum(record) != record.checksum) {
    throw Error(ErrorCode::kBadInput, tensor.part->place(record), "does not match its checksum", "make this part again");
  }
  if (record.fate == Fate::kKept) {
    if (packed != nullptr) packed->write(record.name, 0, tensor.part->kept(record));
    if (plain != nullptr) plain->write(record.name, 0, tensor.part->kept(record));
    return;
  }
  const TernaryMatrix matrix = tensor.part->matrix(record);
  if (packed != nullptr) {
    packed->write(trits_name(record.name), 0, std::as_bytes(matrix.trits));
    packed->write(scales_name(record.name), 0, std::as_bytes(matrix.scales));
    packed->write(codebook_name(record.name), 0, std::as_bytes(std::span(matrix.codebooks)));
  }
  if (plain != nullptr) write_decoded_matrix(matrix, record.name, tensor.part->place(record), *plain, pool);
}

// The files beside the weights, as the source had them: every part holds the same, and its checksums were verified.
std::vector<SideFile> side_files_of(const PackedCheckpoint& part) {
  std::vector<SideFile> files;
  for (const FileRecord& file : part.manifest().files) {
    if (file.role != FileRole::kSide || file.name == "config.json" || file.name == "README.md") continue;
    files.push_back({file.name, read_model_file(part.folder(), file.name, kLargestSideFile)});
  }
  return files;
}

// Results of an earlier merge of these parts, which may have been interrupted between its two folders.
struct FormerResults {
  bool packed = false, plain = false;
};

FormerResults look_at_former_results(const fs::path& out, const Manifest& whole, const Sources& sources) {
  const auto refuse = [&](const fs::path& path) {
    throw Error(ErrorCode::kConflict, path.string(), "exists already",
                "choose another folder (options.output.folder), or remove it");
  };
  FormerResults former;
  const fs::path packed = out / "packed", plain = out / "model";
  for (const fs::path& path : {packed, plain, partial_folder(packed), partial_folder(plain)}) sources.refuse_if_is_or_holds(path);
  if (kind_of(packed) != FileKind::kNothing) {
    if (folder_state(packed).kind != FolderState::Kind::kResult) refuse_foreign_folder(packed);
    const Manifest found = read_manifest(packed);
    if (found.fingerprint != whole.fingerprint || found.source_digest != whole.source_digest || found.part) refuse(packed);
    for (const FileRecord& file : found.files) {
      if (file.role != FileRole::kSide) check_file(packed, file);
    }
    former.packed = true;
  }
  if (kind_of(plain) != FileKind::kNothing) {
    const auto mark = read_folder_mark(plain);
    if (!mark) refuse_foreign_folder(plain);
    // A merge gives the packed folder its name first, so that a lone plain one is not a merge's.
    if (!former.packed) refuse(plain);
    if (mark->fingerprint != whole.fingerprint || mark->source_digest != whole.source_digest) refuse(plain);
    for (const FileRecord& file : mark->files) {
      if (file.role != FileRole::kSide) check_file(plain, file);
    }
    former.plain = true;
  }
  return former;
}

Json merge_config(const Parts& parts, const std::string& config, const MergeRequest& request, ThreadPool& pool) {
  const auto start = std::chrono::steady_clock::now();
  Manifest manifest = parts.manifest();
  const fs::path out = request.out / config;
  const Sources sources(parts.folders());
  const FormerResults former = look_at_former_results(out, manifest, sources);
  // What an interrupted merge left unfinished is begun anew.
  for (const char* const name : {"packed", "model"}) {
    remove_owned_folder(partial_folder(out / name), sources, Removable::kUnfinished);
  }
  // As the parts have them: those of older versions have one codebook for a stack.
  std::vector<std::vector<PlannedTensor>> packed_units;
  for (const PlacedTensor& tensor : parts.tensors()) packed_units.push_back(stored_tensors(tensor));
  const ShardPlan packed_plan = plan_shards(packed_units, packed_naming());
  const ShardPlan plain_plan = request.emit_model ? plan_shards(plain_units(manifest.tensors), plain_naming()) : ShardPlan{};
  for (TensorRecord& record : manifest.tensors) {
    const auto names = stored_names(record);
    if (!names.empty()) record.file = packed_plan.files[packed_plan.locations.at(names.front()).file].name;
  }
  const bool makes_packed = request.emit_packed && !former.packed, makes_plain = request.emit_model && !former.plain;
  create_folders(out);
  require_free_disk(out, (makes_packed ? packed_plan.total_bytes() : 0) + (makes_plain ? plain_plan.total_bytes() : 0));
  std::optional<FolderWriter> packed, plain;
  const FolderJob job{manifest.fingerprint, sources, false};
  if (makes_packed) packed.emplace(out / "packed", packed_plan, job);
  if (makes_plain) plain.emplace(out / "model", plain_plan, job);
  for (const PlacedTensor& tensor : parts.tensors())
    copy_tensor(tensor, packed ? &*packed : nullptr, plain ? &*plain : nullptr, pool);

  const fs::path first = parts.first().folder();
  Json source_config = parse_python_json(read_model_file(first, "config.json", kLargestConfig), (first / "config.json").string());
  source_config.erase("quantization_config");
  const std::vector<SideFile> side_files = side_files_of(parts.first());
  FolderBytes bytes;
  if (packed) finish_packed_folder(*packed, manifest, source_config, side_files);
  if (plain) finish_plain_folder(*plain, manifest, source_config, side_files);
  if (request.emit_packed) bytes.packed = packed_plan.weight_bytes();
  if (request.emit_model) bytes.model = plain_plan.weight_bytes();
  const RunCost cost{.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
                     .threads = pool.threads()};
  Json report = report_json(manifest, cost, bytes);
  report["kept_embeddings"] = kept_embeddings(manifest, source_config, bytes.packed);
  write_file_atomically(out / "report.json", json_text(report));
  return report;
}

}  // namespace

std::vector<Json> merge_parts(const MergeRequest& request, ThreadPool& pool) {
  const auto found = find_parts(request.folders);
  create_folders(request.out);
  const FileLock lock = FileLock::acquire(request.out / ".lock", FileLock::Kind::kExclusive, request.out);
  // All configurations are checked before the first is written.
  std::map<std::string, Parts> checked;
  for (const auto& [config, folders] : found) {
    const Parts& parts = checked.try_emplace(config, config, folders, pool).first->second;
    if (request.emit_model) parts.refuse_beyond_half();
  }
  std::vector<Json> reports;
  for (const auto& [config, parts] : checked) reports.push_back(merge_config(parts, config, request, pool));
  return reports;
}

}  // namespace tritllm
