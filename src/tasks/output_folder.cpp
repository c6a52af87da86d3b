#include "tasks/output_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "codec/decoder.h"
#include "codec/grouping.h"
#include "core/error.h"
#include "core/half.h"
#include "io/parallel_loop.h"
#include "model/families.h"
#include "tasks/licences.h"
#include "tasks/matrix_job.h"
#include "tasks/model_card.h"

namespace tritllm {
namespace {

constexpr uint64_t kTaskGroups = 5120;  // of a matrix that is decoded

bool has_chat_template(const std::vector<SideFile>& files) {
  return std::ranges::any_of(files, [](const SideFile& file) {
    const bool is_template = file.name.ends_with(".jinja") || file.name == "chat_template.json";
    return is_template || (file.name == "tokenizer_config.json" && file.contents.find("\"chat_template\"") != file.contents.npos);
  });
}

// Everything beside the weights but the manifest.
void add_side_files(FolderWriter& writer, CardKind kind, const Manifest& manifest, const Json& source_config, const Json& config,
                    const std::vector<SideFile>& side_files) {
  writer.add_file("config.json", json_text(config));
  const Licence* const licence = find_licence(manifest.card.license, manifest.card.license_name);
  for (const SideFile& file : with_notice(side_files, licence)) writer.add_file(file.name, file.contents);
  writer.add_file("README.md", model_card(manifest, {.kind = kind,
                                                     .config = source_config,
                                                     .weight_bytes = writer.plan().weight_bytes(),
                                                     .has_chat_template = has_chat_template(side_files),
                                                     .engine_runs_it = family_of_config(source_config) != nullptr}));
}

[[noreturn]] void refuse_beyond_half(const std::string& place) {
  throw Error(ErrorCode::kUnsupported, place,
              fmt::format("holds numbers beyond FP16, which ends at {}: an FP16 folder cannot hold it", kLargestHalf),
              "use the packed folder as it is, or leave the FP16 folder out (options.output.emit_model packed)");
}

}  // namespace

std::vector<PlannedTensor> packed_tensors(const std::string& name, const std::vector<uint64_t>& shape, ElementType source,
                                          const TensorPlan& plan) {
  if (plan.fate == Fate::kTied) return {};
  if (plan.fate == Fate::kKept) return {{name, kept_type(source, plan.is_beyond_half), shape}};
  TensorRecord record;
  record.shape = shape;
  return matrix_tensors(name, record.matrix_shape(), plan.depth);
}

std::vector<std::vector<PlannedTensor>> packed_units(const std::vector<TensorRecord>& tensors) {
  std::vector<std::vector<PlannedTensor>> units;
  for (const TensorRecord& record : tensors) {
    const ElementType type = record.fate == Fate::kKept ? *element_type_from_safetensors(record.type) : ElementType::kF16;
    units.push_back(packed_tensors(record.name, record.shape, type,
                                   {record.fate, record.depth, record.tied_to, /*is_beyond_half=*/type != ElementType::kF16}));
  }
  return units;
}

std::vector<std::vector<PlannedTensor>> plain_units(const std::vector<TensorRecord>& tensors) {
  std::vector<std::vector<PlannedTensor>> units;
  for (const TensorRecord& record : tensors) {
    if (record.fate == Fate::kTied) continue;
    const ElementType type = record.fate == Fate::kTernary ? ElementType::kF16 : *element_type_from_safetensors(record.type);
    if (is_weight_type(type) && type != ElementType::kF16) refuse_beyond_half(fmt::format("tensor '{}'", printable(record.name)));
    units.push_back({{record.name, type, record.shape}});
  }
  return units;
}

Json packed_config(Json config, const Manifest& manifest) {
  Json depths = Json::object();
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate == Fate::kTernary) depths[record.name] = record.depth;
  }
  config["quantization_config"] = {{"quant_method", "tritllm"},
                                   {"format_version", kFormatVersion},
                                   {"group_size", codec::kGroupSize},
                                   {"recipe", manifest.recipe},
                                   {"depths", std::move(depths)}};
  return config;
}

Json plain_config(Json config) {
  config.erase("quantization_config");
  // transformers 5 says dtype where its forerunners said torch_dtype.
  const auto set_type = [](Json& part) {
    if (part.contains("dtype")) part["dtype"] = "float16";
    if (part.contains("torch_dtype") || !part.contains("dtype")) part["torch_dtype"] = "float16";
  };
  set_type(config);
  if (config.contains("text_config") && config["text_config"].is_object()) set_type(config["text_config"]);
  return config;
}

void refuse_matrices_beyond_half(const PackedCheckpoint& checkpoint) {
  const auto is_beyond_half = [](const codec::Codebook& codebook) { return codebook.back() > kLargestHalf; };
  for (const TensorRecord& record : checkpoint.manifest().tensors) {
    if (record.fate != Fate::kTernary) continue;
    if (std::ranges::any_of(checkpoint.matrix(record).codebooks, is_beyond_half)) refuse_beyond_half(checkpoint.place(record));
  }
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

void finish_packed_folder(FolderWriter& packed, Manifest manifest, const Json& source_config,
                          const std::vector<SideFile>& side_files) {
  packed.finish_weights();
  add_side_files(packed, CardKind::kPacked, manifest, source_config, packed_config(source_config, manifest), side_files);
  manifest.files = packed.records();
  packed.add_file(std::string(kManifestName), manifest_text(manifest));
  packed.publish_packed();
}

void finish_plain_folder(FolderWriter& plain, const Manifest& manifest, const Json& source_config,
                         const std::vector<SideFile>& side_files) {
  plain.finish_weights();
  add_side_files(plain, CardKind::kPlain, manifest, source_config, plain_config(source_config), side_files);
  plain.publish_plain(manifest.source_digest);
}

}  // namespace tritllm
