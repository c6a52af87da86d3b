// Owns the measurement of a model on a text: perplexity, and the KL divergence from a reference that reads the same windows in the
// same pass, so that no file of logits is needed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "engine/language_model.h"
#include "tasks/kl_statistics.h"

namespace tritllm {

enum class ScoredPart {
  kSecondHalf,   // of each window, as llama.cpp's perplexity tool does: every token has at least half a window before it
  kWholeWindow,  // every token but the first, as papers on quantisation do
};

struct EvaluateOptions {
  std::filesystem::path model;
  std::optional<std::filesystem::path> reference;
  std::string text;
  uint32_t context = 512;  // tokens of a window
  uint64_t windows = 0;    // the most to evaluate; 0: as many as the text fills
  ScoredPart scored = ScoredPart::kSecondHalf;
  CacheType cache = CacheType::kFloat16;
  std::string device = "cpu";
  Arithmetic arithmetic = Arithmetic::kInteger;
  unsigned threads = 0;
  LoadProgress on_load = {};  // of the model, then of the reference
};

struct Divergence {
  Estimate mean, median, percentile_99, same_top_token;
  double largest = 0;
  Estimate reference_perplexity;
  Estimate log_perplexity_ratio;  // mean of the paired differences of −log p
};

struct Evaluation {
  Estimate perplexity;
  std::optional<Divergence> divergence;
  uint64_t windows = 0, tokens_scored = 0;
  double seconds = 0;
  std::vector<std::string> warnings;
  // With a reference: relative error of the hidden states after each layer, over the first window.
  std::vector<double> layer_errors;
  // With a reference: KL divergence of every scored token, in nats, ascending.
  std::vector<double> sorted_divergences;
};

struct EvaluateProgress {
  uint64_t windows_done, windows_total;
  double perplexity;  // so far
};

Evaluation evaluate(const EvaluateOptions& options, const std::function<void(const EvaluateProgress&)>& on_progress);

Json to_json(const Evaluation& evaluation);

}  // namespace tritllm
