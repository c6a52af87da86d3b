#include "tasks/dequantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "codec/decoder.h"
#include "codec/grouping.h"
#include "core/error.h"
#include "core/half.h"
#include "io/hf_folder.h"
#include "io/parallel_loop.h"
#include "tasks/config_run.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kPieceElements = uint64_t{1} << 18;
constexpr uint64_t kTaskGroups = 5120;  // of a matrix that is decoded

void refuse_existing(const fs::path& out) {
  std::error_code error;
  if (fs::exists(out, error))
    throw Error(ErrorCode::kConflict, out.string(), "exists already", "choose another folder, or remove it");
}

// The folder that is being made, and the lock that keeps a second call out of it.
struct LockedFolder {
  FileLock lock;
  FolderWriter writer;
};

void remove_contents(const fs::path& folder) {
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  if (error) throw io_error(folder.string(), "list the folder", error.value());
  for (const fs::directory_entry& entry : entries) remove_tree(entry.path());
}

// A folder that an interrupted call left behind is begun anew: nothing in it can be told from a torn write.
LockedFolder begin_folder(const fs::path& out, ShardPlan plan) {
  fs::path folder = out;
  if (folder.filename().empty()) folder = folder.parent_path();  // "out/" names "out"
  refuse_existing(folder);
  if (folder.has_parent_path()) create_folders(folder.parent_path());
  const fs::path partial = partial_folder(folder);
  create_folders(partial);
  auto lock = FileLock::try_acquire(partial, FileLock::Kind::kExclusive);
  if (!lock)
    throw Error(ErrorCode::kConflict, folder.string(), "another run is at work on this folder",
                "wait for it, or choose another name");
  remove_contents(partial);
  require_free_disk(partial, plan.total_bytes());
  return {std::move(*lock), FolderWriter(folder, std::move(plan))};
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

std::vector<std::vector<PlannedTensor>> plain_units_of(const std::vector<TensorRecord>& tensors) {
  std::vector<std::vector<PlannedTensor>> units;
  for (const TensorRecord& record : tensors) {
    if (record.fate == Fate::kTied) continue;
    const ElementType type = record.fate == Fate::kTernary ? ElementType::kF16 : *element_type_from_safetensors(record.type);
    units.push_back({{record.name, type, record.shape}});
  }
  return units;
}

void write_decoded_matrix(const TernaryMatrix& matrix, const std::string& name, const std::string& place, const FolderWriter& plain,
                          ThreadPool& pool) {
  validate_matrix(matrix, place, loop_over(pool));
  const uint64_t per_row = matrix.shape.groups_per_row();
  // A task is some whole rows, or a part of a long one.
  const uint64_t task_rows = std::max<uint64_t>(1, kTaskGroups / per_row), task_groups = std::min(per_row, kTaskGroups);
  const uint64_t tasks_per_row = (per_row + task_groups - 1) / task_groups;
  pool.parallel_for((matrix.shape.rows + task_rows - 1) / task_rows * tasks_per_row, [&](size_t task, unsigned) {
    const uint64_t first_row = task / tasks_per_row * task_rows, first_group = task % tasks_per_row * task_groups;
    const auto rows = static_cast<size_t>(std::min(task_rows, matrix.shape.rows - first_row));
    const auto groups = static_cast<size_t>(std::min(task_groups, per_row - first_group));
    std::vector<int8_t> codes(rows * groups * codec::kGroupSize);
    std::vector<uint8_t> scale_codes(rows * groups);
    decode_rows(matrix, first_row, rows, first_group, groups, codes.data(), scale_codes.data());
    std::vector<uint16_t> padded(codes.size());
    const uint64_t group = first_row * per_row + first_group;
    codec::for_codebooks(matrix.shape, group, rows * groups, [&](size_t codebook, uint64_t first, size_t count) {
      const uint64_t offset = first - group;
      codec::HalfDecoder(matrix.codebooks[codebook], matrix.depth)
          .decode(codes.data() + offset * codec::kGroupSize, scale_codes.data() + offset, count,
                  padded.data() + offset * codec::kGroupSize);
    });
    const codec::WeightRange range = codec::weights_in_groups(matrix.shape, group, rows * groups);
    std::vector<uint16_t> halves(range.count);
    codec::strip_padding(matrix.shape, group, rows * groups, padded.data(), halves.data());
    plain.write(name, range.first * sizeof(uint16_t), std::as_bytes(std::span(halves)));
  });
}

CardFacts card_facts_of(const PackedCheckpoint& checkpoint) {
  std::error_code error;
  const fs::path card_path = checkpoint.folder() / "README.md";
  const std::string card = fs::is_regular_file(card_path, error) ? read_text_file(card_path) : "";
  CardFacts facts{checkpoint.manifest().source_name, front_matter_value(card, "base_model"), front_matter_value(card, "license"),
                  ""};
  // The options that followed --configs in the reproduction command; the name before it may hold anything.
  const std::string before = fmt::format(" --configs {}", checkpoint.manifest().recipe), after = " --out out\n";
  if (const size_t begin = card.rfind(before); begin != card.npos) {
    const size_t start = begin + before.size(), end = card.find(after, start);
    if (end != card.npos) facts.options = card.substr(start, end - start);
  }
  return facts;
}

void dequantize_packed(const fs::path& packed, const fs::path& out, ThreadPool& pool, const OnWarning& on_warning) {
  const PackedCheckpoint checkpoint = PackedCheckpoint::open(packed, loop_over(pool));
  for (const std::string& warning : checkpoint.warnings()) on_warning(warning);
  if (checkpoint.manifest().part) {
    throw Error(ErrorCode::kUnsupported, packed.string(), "holds only a part of the model", "merge all parts first");
  }
  const fs::path config_path = packed / "config.json";
  const Json config = parse_json(read_text_file(config_path), config_path.string());
  LockedFolder made = begin_folder(out, plan_shards(plain_units_of(checkpoint.manifest().tensors), plain_naming()));
  FolderWriter& plain = made.writer;
  for (const TensorRecord& record : checkpoint.manifest().tensors) {
    if (record.fate == Fate::kKept) plain.write(record.name, 0, checkpoint.kept(record));
    if (record.fate == Fate::kTernary) {
      write_decoded_matrix(checkpoint.matrix(record), record.name, checkpoint.place(record), plain, pool);
    }
  }
  finish_plain_folder(plain, checkpoint.manifest(), config, read_side_files(packed), card_facts_of(checkpoint));
}

void write_plain_model(const fs::path& model_path, const fs::path& out, ElementType type, ThreadPool& pool) {
  const ModelSource model = open_model(model_path);
  std::vector<std::vector<PlannedTensor>> units;
  for (const SourceTensor& tensor : model.tensors)
    units.push_back({{tensor.name, is_weight_type(tensor.type) ? type : tensor.type, tensor.shape}});
  LockedFolder made = begin_folder(out, plan_shards(units, plain_naming()));
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
  plain.publish();
}

}  // namespace tritllm
