// Owns `tritllm compare`.
#include "tasks/compare.h"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "app/evaluation_options.h"
#include "app/model_options.h"
#include "app/progress_bar.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "tasks/comparison_file.h"
#include "tasks/comparison_plot.h"

namespace tritllm::app {
namespace {

constexpr uint64_t kLargestComparison = uint64_t{64} << 20;
constexpr std::string_view kHeading =
    "| model | file MB | bits/weight, file | bits/weight, matrices | perplexity | KL divergence | same top token | tokens/s |\n"
    "|---|---|---|---|---|---|---|---|\n";

struct Arguments {
  ModelArguments model;  // its model is the reference
  EvaluationArguments evaluation;
  std::vector<std::string> models, earlier;
  std::string plot;
  uint32_t answer_tokens = 64, repetitions = 3;
};

std::vector<Comparison> earlier_comparisons(const Arguments& arguments) {
  std::vector<Comparison> comparisons;
  for (const std::string& file : arguments.earlier) {
    const Json json = parse_json(read_text_file(file, kLargestComparison), file);
    comparisons.push_back(comparison_from_json(JsonView(json, file)));
  }
  return comparisons;
}

CompareOptions to_options(const Arguments& arguments) {
  CompareOptions options;
  for (const std::string& text : arguments.models) options.models.push_back(parse_named_model(text));
  options.earlier = earlier_comparisons(arguments);
  options.evaluation = evaluate_options(arguments.evaluation, arguments.model);
  options.evaluation.reference = arguments.model.model;
  options.answer_tokens = arguments.answer_tokens;
  options.repetitions = arguments.repetitions;
  return options;
}

std::string full_name(const NamedModel& model) {
  const bool repeats = model.name.starts_with(model.series) || model.series == "GGUF";
  return printable(repeats ? model.name : model.series + " " + model.name);
}

std::string row(const ComparedModel& compared, bool is_reference) {
  const Evaluation& evaluation = compared.evaluation;
  std::string quality = " | ";
  if (const auto& divergence = evaluation.divergence) {
    quality = fmt::format("{:.4f} ± {:.4f} | {:.1f} %", divergence->mean.value, divergence->mean.standard_error,
                          100.0 * divergence->same_top_token.value);
  }
  const auto& speed = compared.tokens_per_second;
  return fmt::format("| {} | {:.1f} | {:.2f} | {:.2f} | {:.3f} ± {:.3f} | {} | {} |\n",
                     is_reference ? "source" : full_name(compared.model), static_cast<double>(compared.size.bytes) / 1e6,
                     compared.size.bits_per_weight, compared.size.matrix_bits_per_weight, evaluation.perplexity.value,
                     evaluation.perplexity.standard_error, quality,
                     speed ? fmt::format("{:.1f} ± {:.1f}", speed->value, speed->standard_error) : "");
}

void draw(const Comparison& comparison, const std::string& path) {
  const Evaluation& evaluation = comparison.models.front().evaluation;
  write_file_atomically(path,
                        comparison_plot(comparison, fmt::format("{}: {} tokens in {} windows", comparison.reference.model.name,
                                                                evaluation.tokens_scored, evaluation.windows)));
}

// Rows as they come, and the picture as far as it is known: what was measured before a failure is not lost.
class Report {
 public:
  explicit Report(const Arguments& arguments) : arguments_(arguments) {}

  void add(const Comparison& so_far) {
    if (!arguments_.model.common.json) {
      if (rows_printed_ == 0) print(std::string(kHeading) + row(so_far.reference, /*is_reference=*/true));
      for (; rows_printed_ < so_far.models.size(); ++rows_printed_)
        print(row(so_far.models[rows_printed_], /*is_reference=*/false));
    }
    if (!arguments_.model.common.quiet) {
      for (const std::string& warning : so_far.models.back().evaluation.warnings) print_message("warning: " + printable(warning));
    }
    if (!arguments_.plot.empty()) draw(so_far, arguments_.plot);
  }

 private:
  const Arguments& arguments_;
  size_t rows_printed_ = 0;
};

Comparison measured(const Arguments& arguments, Report& report) {
  const CompareOptions options = to_options(arguments);
  std::optional<WorkLine> line;
  return compare_models(options, {.on_begin =
                                      [&](const NamedModel& model, size_t index) {
                                        line.emplace(fmt::format("{} ({}/{})", full_name(model), index + 1, options.models.size()),
                                                     arguments.model.common.quiet);
                                      },
                                  .on_window =
                                      [&](const EvaluateProgress& progress) {
                                        line->show(static_cast<double>(progress.windows_done),
                                                   static_cast<double>(progress.windows_total),
                                                   fmt::format("perplexity {:.4f}", progress.perplexity));
                                      },
                                  .on_model =
                                      [&](const Comparison& so_far) {
                                        line.reset();
                                        report.add(so_far);
                                      }});
}

void check(const Arguments& arguments) {
  if (arguments.models.empty() && arguments.earlier.empty())
    throw Error(ErrorCode::kUsage, "models", "expected a model to measure, or --with a comparison that was measured before");
  if (arguments.models.empty()) return;
  if (arguments.model.model.empty()) throw Error(ErrorCode::kUsage, "--reference", "is needed to measure a model");
  if (arguments.evaluation.file.empty()) throw Error(ErrorCode::kUsage, "--text-file", "is needed to measure a model");
}

int run(const Arguments& arguments) {
  check(arguments);
  Report report(arguments);
  Comparison comparison;
  if (arguments.models.empty()) {
    comparison = joined(earlier_comparisons(arguments));
    report.add(comparison);
  } else {
    comparison = measured(arguments, report);
  }
  if (arguments.model.common.json) print_json(to_json(comparison));
  return 0;
}

}  // namespace

RunCommand register_compare(CLI::App& app) {
  auto* const command =
      app.add_subcommand("compare", "Size, quality and speed of several models of one source, as a table and a picture");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("models", arguments->models,
                      "Packed folders, Hugging Face folders and GGUF files; NAME=PATH or SERIES/NAME=PATH names one");
  command->add_option("--reference", arguments->model.model, "The source, with which all are compared")
      ->envname("TRITLLM_REFERENCE");
  add_evaluation_options(*command, arguments->evaluation);
  add_option(*command, "--answer-tokens", arguments->answer_tokens, "Tokens of the answers that are timed; 0: no speed",
             "ANSWER_TOKENS")
      ->check(CLI::Range(0u, 1u << 20));
  add_option(*command, "--repetitions", arguments->repetitions, "Timed answers of each model", "REPETITIONS")
      ->check(CLI::Range(1u, 10000u));
  command
      ->add_option("--with", arguments->earlier,
                   "What --json printed before, on the same text: its rows come first; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--plot", arguments->plot, "Write an SVG picture: KL divergence over size and over bits per weight");
  add_device_options(*command, arguments->model);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
