// Owns the comparison of several models of one source: size, quality against the source, speed. Does not own how quality and speed
// are measured (evaluate.h, bench.h), nor the picture and the
// file of a comparison (comparison_plot.h, comparison_file.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/thread_pool.h"
#include "tasks/evaluate.h"

namespace tritllm {

// Models of one series lie on one line of the picture.
struct NamedModel {
  std::string series, name;
  std::filesystem::path path;
};

// From "NAME=PATH" or "SERIES/NAME=PATH", where no such path exists, else from a path alone: a packed or FP16 folder of `quantize`
// is called after its configuration and belongs to the series of its recipe, another folder is called after itself, a GGUF file
// after itself without its ending, in the series "GGUF".
NamedModel parse_named_model(const std::string& text);

struct ModelSize {
  // Of all weight files of a packed folder, of the whole GGUF file, of all tensors of a Hugging Face folder.
  uint64_t bytes = 0;
  uint64_t weights = 0;               // a head that is the embedding counts once
  double bits_per_weight = 0;         // of the whole file
  double matrix_bits_per_weight = 0;  // of the matrices of the layers, as they are stored
};

ModelSize model_size(const std::filesystem::path& path, ThreadPool& pool);

struct ComparedModel {
  NamedModel model;
  ModelSize size;
  Evaluation evaluation;
  std::optional<Estimate> tokens_per_second;  // of an answer; the error is the standard deviation of the runs
};

// What all models of a comparison read, and how they were run. Only figures that agree in all of it can stand side by side.
struct ComparedText {
  std::string checksum;
  uint64_t window = 0;   // tokens
  uint64_t windows = 0;  // that were read
  ScoredPart scored = ScoredPart::kSecondHalf;
  Arithmetic arithmetic = Arithmetic::kInteger;
  CacheType cache = CacheType::kFloat16;
  bool operator==(const ComparedText&) const = default;
};

struct Comparison {
  ComparedText text;
  ComparedModel reference;  // without a divergence
  std::vector<ComparedModel> models;
};

struct CompareOptions {
  std::vector<NamedModel> models;   // at least one; no two of one series and name, those of `earlier` included
  std::vector<Comparison> earlier;  // of the same source and text; their models come first in the result
  // Of each model: `evaluation.model` is ignored, `evaluation.reference` is the source of all.
  EvaluateOptions evaluation;
  uint32_t answer_tokens = 64;  // of the answers whose speed is measured; 0: no speed
  uint32_t repetitions = 3;
};

struct CompareProgress {
  std::function<void(const NamedModel& model, size_t index)> on_begin;  // a model is loaded and measured
  std::function<void(const EvaluateProgress&)> on_window;
  std::function<void(const Comparison& so_far)> on_model;  // the last of so_far.models is done
};

// All models are opened, and their sizes taken, before the first is measured. One model is in memory at a time, beside the
// reference.
// Throws where an earlier comparison is of another text or, as soon as its perplexity is known, of another source.
Comparison compare_models(const CompareOptions& options, const CompareProgress& progress);

// Comparisons of one text and source as one. Throws where they are not. Needs at least one.
Comparison joined(const std::vector<Comparison>& comparisons);

}  // namespace tritllm
