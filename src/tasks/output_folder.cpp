#include "tasks/output_folder.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "codec/decoder.h"
#include "codec/grouping.h"
#include "io/parallel_loop.h"
#include "tasks/matrix_job.h"
#include "tasks/model_card.h"

namespace tritllm {
namespace {

void add_side_files(FolderWriter& writer, const Json& config, const std::vector<SideFile>& side_files) {
  writer.add_file("config.json", json_text(config));
  for (const SideFile& file : side_files) writer.add_file(file.name, file.contents);
}

}  // namespace

std::vector<PlannedTensor> packed_tensors(const std::string& name, const std::vector<uint64_t>& shape, ElementType source,
                                          const TensorPlan& plan) {
  if (plan.fate == Fate::kTied) return {};
  if (plan.fate == Fate::kKept) return {{name, kept_type(source), shape}};
  TensorRecord record;
  record.shape = shape;
  return matrix_tensors(name, record.matrix_shape(), plan.depth);
}

std::vector<std::vector<PlannedTensor>> packed_units(const std::vector<TensorRecord>& tensors) {
  std::vector<std::vector<PlannedTensor>> units;
  for (const TensorRecord& record : tensors) {
    const ElementType type = record.fate == Fate::kKept ? *element_type_from_safetensors(record.type) : ElementType::kF16;
    units.push_back(packed_tensors(record.name, record.shape, type, {record.fate, record.depth, record.tied_to}));
  }
  return units;
}

std::vector<std::vector<PlannedTensor>> plain_units(const std::vector<TensorRecord>& tensors) {
  std::vector<std::vector<PlannedTensor>> units;
  for (const TensorRecord& record : tensors) {
    if (record.fate == Fate::kTied) continue;
    const ElementType type = record.fate == Fate::kTernary ? ElementType::kF16 : *element_type_from_safetensors(record.type);
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

void write_decoded_matrix(const TernaryMatrix& matrix, const std::string& name, const std::string& place, const FolderWriter& plain,
                          ThreadPool& pool) {
  validate_matrix(matrix, place, loop_over(pool));
  const codec::HalfDecoder decoder(matrix.codebook, matrix.depth);
  const uint64_t lines = matrix.shape.lines();
  pool.parallel_for((lines + codec::kBlockLines - 1) / codec::kBlockLines, [&](size_t block, unsigned) {
    const uint64_t first_line = block * codec::kBlockLines;
    const size_t count = static_cast<size_t>(std::min<uint64_t>(codec::kBlockLines, lines - first_line)),
                 groups = count * codec::kLineGroups;
    std::vector<int8_t> codes(groups * codec::kGroupSize);
    std::vector<uint8_t> entries(groups);
    decode_lines(matrix, first_line, count, codes.data(), entries.data());
    std::vector<uint16_t> padded(groups * codec::kGroupSize);
    decoder.decode(codes.data(), entries.data(), groups, padded.data());
    const codec::WeightRange range = codec::weights_in_groups(matrix.shape, first_line * codec::kLineGroups, groups);
    std::vector<uint16_t> halves(range.count);
    codec::strip_padding(matrix.shape, first_line * codec::kLineGroups, groups, padded.data(), halves.data());
    plain.write(name, range.first * sizeof(uint16_t), std::as_bytes(std::span(halves)));
  });
}

void finish_packed_folder(FolderWriter& packed, Manifest manifest, const Json& source_config,
                          const std::vector<SideFile>& side_files) {
  packed.finish_weights();
  add_side_files(packed, packed_config(source_config, manifest), side_files);
  packed.add_file("README.md", model_card(CardKind::kPacked, manifest, manifest.card, packed.plan().weight_bytes()));
  manifest.files = packed.records();
  packed.add_file(std::string(kManifestName), manifest_text(manifest));
  packed.publish_packed();
}

void finish_plain_folder(FolderWriter& plain, const Manifest& manifest, const Json& source_config,
                         const std::vector<SideFile>& side_files) {
  plain.finish_weights();
  add_side_files(plain, plain_config(source_config), side_files);
  plain.add_file("README.md", model_card(CardKind::kPlain, manifest, manifest.card, plain.plan().weight_bytes()));
  plain.publish_plain(manifest.source_digest);
}

}  // namespace tritllm
