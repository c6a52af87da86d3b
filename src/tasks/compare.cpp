#include "tasks/compare.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <span>
#include <utility>

#include "core/checksum.h"
#include "core/error.h"
#include "core/thread_pool.h"
#include "io/manifest.h"
#include "io/model_location.h"
#include "io/packed_checkpoint.h"
#include "model/model_files.h"
#include "tasks/bench.h"

namespace tritllm {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kGguf = ".gguf";

std::string without_depth(std::string name) {
  const size_t tail = name.rfind("-d");
  const bool ends_so = tail != name.npos && tail + 3 == name.size() && name.back() >= '1' && name.back() <= '4';
  return ends_so ? name.substr(0, tail) : name;
}

// The folder's own name; that of the folder around it for the names that all results of `quantize` have.
std::string folder_name(const fs::path& path) {
  fs::path folder = fs::absolute(path).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  const bool is_result = folder.filename() == "packed" || folder.filename() == "model";
  return (is_result && folder.parent_path().has_filename() ? folder.parent_path() : folder).filename().string();
}

NamedModel model_named_by_path(const fs::path& path) {
  const fs::path model = locate_model(path);
  if (model.extension() == kGguf) return {"GGUF", model.stem().string(), model};
  const std::string name = folder_name(model);
  return {without_depth(name), name, model};
}

bool is_layer_matrix(std::string_view name, size_t dimensions) { return dimensions >= 2 && name.find(".layers.") != name.npos; }

uint64_t file_bytes(const ModelFiles& files) {
  uint64_t bytes = 0;
  if (is_packed_checkpoint(files.path)) {
    for (const FileRecord& file : read_manifest(files.path).files) {
      if (file.role == FileRole::kWeights) bytes += file.bytes;
    }
  } else if (files.path.extension() == kGguf) {
    for (const fs::path& part : gguf_parts(files.path)) bytes += fs::file_size(part);
  } else {
    bytes = weight_bytes(files);
  }
  return bytes;
}

double bits(uint64_t bytes, uint64_t weights) {
  return weights == 0 ? 0.0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
}

Estimate answer_speed(const fs::path& path, const CompareOptions& options) {
  BenchOptions bench;
  bench.model = path;
  bench.tests = {{.prompt = false, .tokens = options.answer_tokens}};
  bench.repetitions = options.repetitions;
  bench.device = options.evaluation.device;
  bench.arithmetic = options.evaluation.arithmetic;
  bench.threads = options.evaluation.threads;
  bench.cache = options.evaluation.cache;
  const BenchRow row = run_bench(bench, [](const BenchRow&) {}).front();
  return {row.tokens_per_second, row.stddev};
}

class Names {
 public:
  void add(const NamedModel& model) {
    if (names_.emplace(model.series, model.name).second) return;
    throw Error(ErrorCode::kUsage, model.path.string(), fmt::format("another model is called '{}' too", printable(model.name)),
                "give it a name: NAME=PATH");
  }

 private:
  std::set<std::pair<std::string, std::string>> names_;
};

// The same source gives the same perplexity on the same text, but for the last bits of sums on other machines.
constexpr double kSamePerplexity = 1e-3;

void require_same_source(const ComparedModel& a, const ComparedModel& b) {
  const double x = a.evaluation.perplexity.value, y = b.evaluation.perplexity.value;
  if (a.size.weights == b.size.weights && std::abs(x - y) <= kSamePerplexity * x) return;
  throw Error(ErrorCode::kUsage, "options.earlier",
              fmt::format("another source was measured: {} weights, perplexity {:.4f}, and here {}, {:.4f}", b.size.weights, y,
                          a.size.weights, x),
              "join comparisons with one source");
}

void require_same_text(const ComparedText& a, const ComparedText& b) {
  if (a == b) return;
  if (a.arithmetic != b.arithmetic || a.cache != b.cache) {
    throw Error(ErrorCode::kUsage, "options.earlier", "other activations or another key/value cache were measured",
                "join comparisons that were run alike");
  }
  throw Error(ErrorCode::kUsage, "options.earlier",
              a.checksum != b.checksum
                  ? "another text was measured"
                  : fmt::format("another part of the text was measured: {} windows of {} tokens, and here {} of {}, or another "
                                "scored part of them",
                                b.windows, b.window, a.windows, a.window),
              "join comparisons of one text and the same windows");
}

ComparedModel opened(const NamedModel& model, ThreadPool& pool) {
  ComparedModel compared;
  compared.model = model;
  compared.size = model_size(model.path, pool);
  return compared;
}

}  // namespace

NamedModel parse_named_model(const std::string& text) {
  const size_t equals = text.find('=');
  std::error_code unreadable;  // loading says what is wrong with the path
  if (equals == text.npos || equals == 0 || fs::exists(text, unreadable)) return model_named_by_path(text);
  const std::string name = text.substr(0, equals);
  const size_t slash = name.find('/');
  const fs::path path = locate_model(text.substr(equals + 1));
  if (slash == name.npos) return {without_depth(name), name, path};
  if (slash == 0 || slash + 1 == name.size()) {
    throw Error(ErrorCode::kUsage, text, "expected SERIES/NAME=PATH");
  }
  return {name.substr(0, slash), name.substr(slash + 1), path};
}

ModelSize model_size(const fs::path& path, ThreadPool& pool) {
  const ModelFiles files = open_model_files(path, pool);
  ModelSize size;
  uint64_t matrix_bytes = 0, matrix_weights = 0;
  for (const auto& [name, source] : files.weights) {
    const TernaryMatrix* const ternary = source.ternary();
    const uint64_t weights = ternary != nullptr ? ternary->shape.rows * ternary->shape.columns : source.dense()->elements();
    size.weights += weights;
    if (!is_layer_matrix(name, ternary != nullptr ? 2 : source.dense()->shape.size())) continue;
    matrix_bytes += source.bytes();
    matrix_weights += weights;
  }
  size.bytes = file_bytes(files);
  size.bits_per_weight = bits(size.bytes, size.weights);
  size.matrix_bits_per_weight = bits(matrix_bytes, matrix_weights);
  return size;
}

Comparison joined(const std::vector<Comparison>& comparisons) {
  Comparison all = comparisons.front();
  for (const Comparison& other : std::span(comparisons).subspan(1)) {
    require_same_text(all.text, other.text);
    require_same_source(all.reference, other.reference);
    all.models.insert(all.models.end(), other.models.begin(), other.models.end());
  }
  Names names;
  for (const ComparedModel& model : all.models) names.add(model.model);
  return all;
}

Comparison compare_models(const CompareOptions& options, const CompareProgress& progress) {
  const EvaluateOptions& evaluation = options.evaluation;
  Comparison comparison;
  comparison.text = {checksum_of(evaluation.text), evaluation.context, 0, evaluation.scored,
                     evaluation.arithmetic,        evaluation.cache};
  std::optional<Comparison> earlier;
  if (!options.earlier.empty()) {
    earlier = joined(options.earlier);
    comparison.text.windows = earlier->text.windows;
    require_same_text(comparison.text, earlier->text);
    comparison.models = earlier->models;
  }
  Names names;
  for (const ComparedModel& model : comparison.models) names.add(model.model);
  for (const NamedModel& model : options.models) names.add(model);

  std::vector<ComparedModel> models;
  {
    ThreadPool pool(evaluation.threads);
    comparison.reference = opened(model_named_by_path(*evaluation.reference), pool);
    for (const NamedModel& model : options.models) models.push_back(opened(model, pool));
  }
  for (size_t index = 0; index < models.size(); ++index) {
    ComparedModel& compared = models[index];
    progress.on_begin(compared.model, index);
    EvaluateOptions one = evaluation;
    one.model = compared.model.path;
    compared.evaluation = evaluate(one, progress.on_window);
    if (index == 0) {
      comparison.text.windows = compared.evaluation.windows;
      ComparedModel& reference = comparison.reference;
      reference.evaluation.perplexity = compared.evaluation.divergence->reference_perplexity;
      reference.evaluation.windows = compared.evaluation.windows;
      reference.evaluation.tokens_scored = compared.evaluation.tokens_scored;
      if (earlier) {
        require_same_text(comparison.text, earlier->text);
        require_same_source(reference, earlier->reference);
        reference.tokens_per_second = earlier->reference.tokens_per_second;
      }
      if (options.answer_tokens > 0) reference.tokens_per_second = answer_speed(reference.model.path, options);
    }
    if (options.answer_tokens > 0) compared.tokens_per_second = answer_speed(compared.model.path, options);
    comparison.models.push_back(std::move(compared));
    progress.on_model(comparison);
  }
  return comparison;
}

}  // namespace tritllm
