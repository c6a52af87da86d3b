#include "tasks/dequantize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>

#include "core/checksum.h"
#include "core/error.h"
#include "core/file.h"
#include "core/half.h"
#include "core/owned_folder.h"
#include "io/hf_folder.h"
#include "io/model_folder.h"
#include "io/parallel_loop.h"
#include "tasks/output_folder.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kPieceElements = uint64_t{1} << 18;

// The folder that is being made, and the lock that keeps a second call out of it.
struct LockedFolder {
  FileLock lock;
  FolderWriter writer;
};

void refuse_existing(const fs::path& folder) {
  if (kind_of(folder) != FileKind::kNothing)
    throw Error(ErrorCode::kConflict, folder.string(), "exists already", "choose another folder, or remove it");
}

// A folder that an interrupted call left behind is begun anew: nothing in it can be told from a torn write.
LockedFolder begin_folder(const fs::path& out, const fs::path& model, const std::string& fingerprint, ShardPlan plan) {
  const fs::path folder = out.filename().empty() ? out.parent_path() : out;  // "out/" names "out"
  const fs::path partial = partial_folder(folder);
  const Sources sources({model});
  refuse_existing(folder);
  sources.refuse_if_is_or_holds(partial);
  const FileKind kind = kind_of(partial);
  if (kind != FileKind::kNothing && kind != FileKind::kFolder) refuse_foreign_folder(partial);
  if (kind == FileKind::kNothing) create_folders(partial);
  // Locked before anything is judged: another call may just be giving its folder the name.
  FileLock lock = FileLock::acquire(partial, FileLock::Kind::kExclusive, folder);
  refuse_existing(folder);
  if (!lock.still_at(partial)) throw Error(ErrorCode::kConflict, partial.string(), "another run took it away", "run again");
  empty_owned_folder(partial, sources, fingerprint);
  require_free_disk(partial, plan.total_bytes());
  return {std::move(lock), FolderWriter(folder, std::move(plan), {fingerprint, sources, false})};
}

// Of a call that writes a model as it is: by source and type, as no recipe is involved.
std::string plain_fingerprint(const ModelSource& model, ElementType type) {
  Checksum checksum;
  checksum.add(fmt::format("plain\n{}\n{}\n{}\n", TRITLLM_VERSION, model.kind, layout_of(type).name));
  for (const SourceTensor& tensor : model.tensors)
    checksum.add(fmt::format("{}\n{}\n{}\n", tensor.name, layout_of(tensor.type).name, fmt::join(tensor.shape, ",")));
  checksum.add((*model.config).dump());
  return checksum.hex();
}

// Elements of a tensor as bytes of the wanted type.
std::vector<std::byte> converted(const SourceTensor& tensor, uint64_t first, uint64_t count, ElementType type) {
  std::vector<float> values(count);
  read_float32(tensor, first, values);
  std::vector<std::byte> bytes(count * layout_of(type).block_bytes);
  if (type == ElementType::kF32) {
    std::copy_n(reinterpret_cast<const std::byte*>(values.data()), bytes.size(), bytes.data());
    return bytes;
  }
  const auto halves = reinterpret_cast<uint16_t*>(bytes.data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (!(std::abs(values[i]) <= kLargestHalf)) {
      throw Error(ErrorCode::kBadInput, fmt::format("{}: element {}", tensor.place, first + i),
                  fmt::format("expected a finite number up to {}, found {}", kLargestHalf, values[i]),
                  "write F32 instead (options.type)");
    }
    halves[i] = half_from_float(values[i]);
  }
  return bytes;
}

}  // namespace

void dequantize_packed(const fs::path& packed, const fs::path& out, ThreadPool& pool, const OnWarning& on_warning) {
  const PackedCheckpoint checkpoint = PackedCheckpoint::open(packed, loop_over(pool));
  for (const std::string& warning : checkpoint.warnings()) on_warning(warning);
  if (checkpoint.manifest().part) {
    throw Error(ErrorCode::kUnsupported, packed.string(), "holds only a part of the model", "merge all parts first");
  }
  const fs::path config_path = packed / "config.json";
  const Json config = parse_python_json(read_model_file(packed, "config.json", kLargestConfig), config_path.string());
  const Manifest& manifest = checkpoint.manifest();
  refuse_matrices_beyond_half(checkpoint);
  LockedFolder made = begin_folder(out, packed, manifest.fingerprint, plan_shards(plain_units(manifest.tensors), plain_naming()));
  FolderWriter& plain = made.writer;
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate == Fate::kKept) plain.write(record.name, 0, checkpoint.kept(record));
    if (record.fate == Fate::kTernary) {
      write_decoded_matrix(checkpoint.matrix(record), record.name, checkpoint.place(record), plain, pool);
    }
  }
  finish_plain_folder(plain, manifest, config, read_side_files(packed));
}

void write_plain_model(const fs::path& model_path, const fs::path& out, ElementType type, ThreadPool& pool,
                       const OnWarning& on_warning) {
  const ModelSource model = open_model(model_path);
  for (const std::string& warning : model.warnings) on_warning(warning);
  std::vector<std::vector<PlannedTensor>> units;
  for (const SourceTensor& tensor : model.tensors)
    units.push_back({{tensor.name, is_weight_type(tensor.type) ? type : tensor.type, tensor.shape}});
  LockedFolder made = begin_folder(out, model_path, plain_fingerprint(model, type), plan_shards(units, plain_naming()));
  FolderWriter& plain = made.writer;
  for (const SourceTensor& tensor : model.tensors) {
    if (!is_weight_type(tensor.type)) {
      plain.write(tensor.name, 0, tensor.bytes);
      continue;
    }
    const uint64_t elements = tensor.elements();
    pool.parallel_for((elements + kPieceElements - 1) / kPieceElements, [&](size_t piece, unsigned) {
      const uint64_t first = piece * kPieceElements;
      plain.write(tensor.name, first * layout_of(type).block_bytes,
                  converted(tensor, first, std::min(kPieceElements, elements - first), type));
    });
    release_pages(tensor.bytes);
  }
  plain.finish_weights();
  Json config = *model.config;
  config["torch_dtype"] = type == ElementType::kF32 ? "float32" : "float16";
  config.erase("dtype");
  plain.add_file("config.json", json_text(config));
  for (const SideFile& file : model.side_files) plain.add_file(file.name, file.contents);
  if (!model.card.empty()) plain.add_file("README.md", model.card);
  plain.publish_plain("");
}

}  // namespace tritllm
