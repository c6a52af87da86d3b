#include "tasks/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <unordered_map>

#include "codec/quantizer.h"
#include "core/error.h"
#include "core/file.h"
#include "core/owned_folder.h"
#include "io/folder_mark.h"
#include "io/folder_writer.h"
#include "io/hf_folder.h"
#include "io/mapped_file.h"
#include "io/model_location.h"
#include "io/model_source.h"
#include "io/packed_checkpoint.h"
#include "io/parallel_loop.h"
#include "kernels/kernel_table.h"
#include "tasks/exact_job.h"
#include "tasks/matrix_job.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

// A folder of its own below the system's temporary folder, removed at the end.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const Sources& sources) : sources_(sources) {
    std::error_code error;
    const fs::path parent = fs::temp_directory_path(error);
    if (error) throw io_error("TMPDIR", "find the folder for temporary files", error.value());
    sources_.refuse_inside(parent);
    std::string pattern = (parent / "tritllm-verify-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw io_error(pattern, "create a temporary folder", errno);
    path_ = pattern;
    mark_unfinished(path_, "");
  }
  ~TemporaryFolder() {
    // The result of the comparison matters more than what remains in a temporary folder.
    try {
      remove_owned_folder(path_, sources_, Removable::kUnfinished);
    } catch (const Error&) {
    }
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const noexcept { return path_; }

 private:
  const Sources& sources_;
  fs::path path_;
};

// Weights that are not finite: the first of each tensor.
void check_weights(const ModelSource& model, ThreadPool& pool, ModelProblems& problems) {
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  for (const SourceTensor& tensor : model.tensors) {
    if (!is_weight_type(tensor.type)) continue;
    const uint64_t elements = tensor.elements();
    std::vector<std::optional<uint64_t>> bad((elements + kPiece - 1) / kPiece);
    pool.parallel_for(bad.size(), [&](size_t piece, unsigned) {
      const uint64_t first = piece * kPiece;
      std::vector<float> weights(std::min(kPiece, elements - first));
      read_float32(tensor, first, weights);
      if (const auto index = codec::find_unusable_weight(weights, std::numeric_limits<float>::max())) bad[piece] = first + *index;
    });
    release_pages(tensor.bytes);
    const auto first_bad = std::find_if(bad.begin(), bad.end(), [](const auto& index) { return index.has_value(); });
    if (first_bad == bad.end()) continue;
    problems.add(
        {model.path.string(),
         fmt::format("{}: row {}, column {}", tensor.place, **first_bad / tensor.columns(), **first_bad % tensor.columns()),
         "not a finite number"});
  }
}

// A plain folder that tritllm made has the checksums of its files.
void check_mark(const fs::path& folder, ModelProblems& problems) {
  problems.attempt(std::string(kFolderMarkName), [&] {
    const auto mark = read_folder_mark(folder);
    if (!mark) return;
    for (const FileRecord& file : mark->files) problems.attempt(file.name, [&] { check_file(folder, file); });
  });
}

std::vector<ModelProblem> verify_source(const fs::path& path, ThreadPool& pool) {
  ModelProblems problems;
  if (kind_of_target(path) == FileKind::kFolder) {
    check_mark(path, problems);
    examine_hf_files(path, problems);
  }
  problems.attempt(path.string(), [&] { check_weights(open_model(path), pool, problems); });
  return problems.take();
}

// Indices of `sample` ternary matrices spread evenly over the model, the first and the last among them.
std::vector<size_t> sampled_matrices(const Manifest& manifest, size_t sample) {
  std::vector<size_t> matrices;
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    if (manifest.tensors[i].fate == Fate::kTernary) matrices.push_back(i);
  }
  if (sample == 0 || sample >= matrices.size()) return matrices;
  std::vector<size_t> chosen;
  for (size_t k = 0; k < sample; ++k) chosen.push_back(matrices[sample == 1 ? 0 : k * (matrices.size() - 1) / (sample - 1)]);
  return chosen;
}

// Quantises one tensor into a folder and returns the checksum that the manifest would have.
std::string requantized_checksum(const SourceTensor& tensor, codec::Config config, const fs::path& folder, ThreadPool& pool) {
  const std::vector<PlannedTensor> unit = matrix_tensors(tensor.name, codec_shape(tensor), config.depth);
  const FolderWriter writer(folder, plan_shards({unit}, packed_naming()));
  std::optional<codec::ExactForm> exact;
  if (config.recipe == codec::Recipe::kExact) {
    exact = find_exact_form(tensor, config.depth, pool, [](uint64_t) {}).form;
    if (!exact || exact->depth != config.depth) return "";
  }
  const MatrixTarget target{config, {&writer, nullptr}, exact ? &*exact : nullptr};
  quantize_matrix(tensor, {&target, 1}, *kernels::active_table().groups, pool, [](uint64_t) {});
  Checksum checksum;
  for (const PlannedTensor& part : unit) writer.add_to_checksum(part.name, checksum);
  return checksum.hex();
}

}  // namespace

std::vector<ModelProblem> verify_model(const fs::path& named, ThreadPool& pool) {
  const fs::path path = locate_model(named);
  if (is_packed_checkpoint(path)) return PackedCheckpoint::examine(path, loop_over(pool));
  return verify_source(path, pool);
}

std::vector<ModelProblem> verify_against_source(const fs::path& named, const fs::path& source, size_t sample, ThreadPool& pool) {
  const fs::path packed = locate_model(named);
  if (!is_packed_checkpoint(packed)) {
    throw Error(ErrorCode::kUsage, "options.source", "only a packed folder can be compared with its source");
  }
  const Manifest manifest = read_manifest(packed);
  const ModelSource model = open_model(source);
  std::unordered_map<std::string, const SourceTensor*> tensors;
  for (const SourceTensor& tensor : model.tensors) tensors.emplace(tensor.name, &tensor);
  const codec::Recipe recipe = codec::parse_config(manifest.recipe).recipe;
  if (codec::recipe_row(recipe).calibrates) {
    throw Error(ErrorCode::kUnsupported, "options.source",
                "a calibrated matrix follows from all layers before it, not from its source alone",
                "quantise the source again with the options of the model card, and compare the files");
  }

  std::vector<ModelProblem> problems;
  const Sources sources({packed, source});
  const TemporaryFolder scratch(sources);
  for (const size_t i : sampled_matrices(manifest, sample)) {
    const TensorRecord& record = manifest.tensors[i];
    const auto found = tensors.find(record.name);
    const std::string where = fmt::format("{}: tensor '{}'", source.string(), printable(record.name));
    if (found == tensors.end() || found->second->shape != record.shape) {
      problems.push_back({source.string(), where, "missing in the source, or of another shape"});
      continue;
    }
    if (checksum_and_release(found->second->bytes) != record.source_checksum) {
      problems.push_back({source.string(), where, "not the tensor that was quantised: its checksum differs from the manifest's"});
      continue;
    }
    const fs::path folder = scratch.path() / fmt::format("matrix-{}", i);
    const auto is_made_from = [&](const SourceTensor& tensor) {
      const std::string again = requantized_checksum(tensor, {recipe, record.depth}, folder, pool);
      remove_owned_folder(partial_folder(folder), sources, Removable::kUnfinished);
      return again == record.checksum;
    };
    // Stacks that were written before experts had codebooks of their own were quantised as one matrix.
    SourceTensor as_matrix = *found->second;
    as_matrix.shape = {as_matrix.rows(), as_matrix.columns()};
    if (!is_made_from(*found->second) && (record.shape.size() != 3 || !is_made_from(as_matrix))) {
      problems.push_back({record.file, fmt::format("{}: tensor '{}'", (packed / record.file).string(), printable(record.name)),
                          "quantising the source again gives other bytes"});
    }
  }
  return problems;
}

}  // namespace tritllm
