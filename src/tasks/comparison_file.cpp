#include "tasks/comparison_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>
#include <string>

namespace tritllm {

namespace {

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr std::string_view kSecondHalf = "second-half", kWholeWindow = "all";
constexpr std::string_view kInt8 = "int8", kFloat32 = "f32";

Json to_json(const ComparedModel& compared) {
  Json json = {{"series", compared.model.series},
               {"name", compared.model.name},
               {"path", compared.model.path.string()},
               {"bytes", compared.size.bytes},
               {"weights", compared.size.weights},
               {"bits_per_weight", compared.size.bits_per_weight},
               {"matrix_bits_per_weight", compared.size.matrix_bits_per_weight}};
  if (const auto& speed = compared.tokens_per_second) {
    json["tokens_per_second"] = speed->value;
    json["tokens_per_second_stddev"] = speed->standard_error;
  }
  json.update(to_json(compared.evaluation));
  return json;
}

Estimate estimate(const JsonView& view, std::string_view value, std::string_view error) {
  return {view.number(value, 0.0, kLargest), view.number(error, 0.0, kLargest)};
}

ComparedModel compared_model(const JsonView& view, bool is_reference) {
  ComparedModel compared;
  compared.model = {view.text("series"), view.text("name"), view.text("path")};
  compared.size = {view.integer("bytes"), view.integer("weights"), view.number("bits_per_weight", 0.0, kLargest),
                   view.number("matrix_bits_per_weight", 0.0, kLargest)};
  if (view.has("tokens_per_second")) compared.tokens_per_second = estimate(view, "tokens_per_second", "tokens_per_second_stddev");
  Evaluation& evaluation = compared.evaluation;
  evaluation.perplexity = estimate(view, "perplexity", "perplexity_stderr");
  evaluation.windows = view.integer("windows");
  evaluation.tokens_scored = view.integer("tokens_scored");
  evaluation.seconds = view.number("seconds", 0.0, kLargest);
  if (is_reference) return compared;
  Divergence& divergence = evaluation.divergence.emplace();
  divergence.mean = estimate(view, "kl_divergence_mean", "kl_divergence_stderr");
  divergence.median = estimate(view, "kl_divergence_median", "kl_divergence_median_stderr");
  divergence.percentile_99 = estimate(view, "kl_divergence_p99", "kl_divergence_p99_stderr");
  divergence.largest = view.number("kl_divergence_max", 0.0, kLargest);
  divergence.same_top_token = estimate(view, "same_top_token", "same_top_token_stderr");
  divergence.reference_perplexity = estimate(view, "reference_perplexity", "reference_perplexity_stderr");
  divergence.log_perplexity_ratio = {view.number("log_perplexity_ratio", -kLargest, kLargest),
                                     view.number("log_perplexity_ratio_stderr", 0.0, kLargest)};
  for (const JsonView& error : view.child("layer_relative_errors").items())
    evaluation.layer_errors.push_back(error.number(0.0, kLargest));
  return compared;
}

bool is_first_of(const JsonView& view, std::string_view first, std::string_view second) {
  const std::string text = view.text();
  if (text != first && text != second) view.refuse(std::string(first) + " or " + std::string(second));
  return text == first;
}

CacheType cache_type_of(const JsonView& view) {
  const auto type = cache_type_named(view.text());
  if (!type) view.refuse(fmt::format("one of {}", fmt::join(kCacheTypeNames, ", ")));
  return *type;
}

}  // namespace

Json to_json(const Comparison& comparison) {
  const ComparedText& text = comparison.text;
  Json json = {{"text",
                {{"checksum", text.checksum},
                 {"window", text.window},
                 {"windows", text.windows},
                 {"scored", text.scored == ScoredPart::kWholeWindow ? kWholeWindow : kSecondHalf},
                 {"activations", text.arithmetic == Arithmetic::kInteger ? kInt8 : kFloat32},
                 {"kv_cache", name_of(text.cache)}}},
               {"reference", to_json(comparison.reference)},
               {"models", Json::array()}};
  for (const ComparedModel& model : comparison.models) json["models"].push_back(to_json(model));
  return json;
}

Comparison comparison_from_json(const JsonView& view) {
  Comparison comparison;
  const JsonView text = view.child("text");
  comparison.text = {
      text.text("checksum"),
      text.integer("window"),
      text.integer("windows"),
      is_first_of(text.child("scored"), kWholeWindow, kSecondHalf) ? ScoredPart::kWholeWindow : ScoredPart::kSecondHalf,
      is_first_of(text.child("activations"), kInt8, kFloat32) ? Arithmetic::kInteger : Arithmetic::kFloat,
      cache_type_of(text.child("kv_cache"))};
  comparison.reference = compared_model(view.child("reference"), /*is_reference=*/true);
  for (const JsonView& model : view.child("models").items())
    comparison.models.push_back(compared_model(model, /*is_reference=*/false));
  if (comparison.models.empty()) view.child("models").refuse("at least one model");
  return comparison;
}

}  // namespace tritllm
