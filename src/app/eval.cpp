// Owns `tritllm eval`.
#include <fmt/format.h>

#include <cstdint>
#include <memory>

#include "app/evaluation_options.h"
#include "app/model_options.h"
#include "app/progress_bar.h"
#include "core/error.h"
#include "core/file.h"
#include "tasks/evaluate.h"
#include "tasks/evaluation_plot.h"

namespace tritllm::app {
namespace {

struct Arguments {
  ModelArguments model;
  EvaluationArguments evaluation;
  std::string reference, plot;
};

EvaluateOptions to_options(const Arguments& arguments) {
  EvaluateOptions options = evaluate_options(arguments.evaluation, arguments.model);
  options.model = arguments.model.model;
  if (!arguments.reference.empty()) options.reference = arguments.reference;
  return options;
}

void print_evaluation(const Evaluation& evaluation) {
  const auto line = [](std::string_view name, const Estimate& estimate) {
    print(fmt::format("{:<28} {:>12.6f} ± {:.6f}\n", name, estimate.value, estimate.standard_error));
  };
  line("perplexity", evaluation.perplexity);
  if (const auto& divergence = evaluation.divergence) {
    line("reference perplexity", divergence->reference_perplexity);
    line("log of their ratio", divergence->log_perplexity_ratio);
    line("KL divergence, mean", divergence->mean);
    line("KL divergence, median", divergence->median);
    line("KL divergence, 99 %", divergence->percentile_99);
    print(fmt::format("{:<28} {:>12.6f}\n", "KL divergence, largest", divergence->largest));
    line("same top token", divergence->same_top_token);
  }
  print(fmt::format("{} tokens in {} windows, {}\n", evaluation.tokens_scored, evaluation.windows,
                    readable_seconds(evaluation.seconds)));
}

// Work with its time left on a terminal; a line every tenth of the work in a log.
class EvaluateLine {
 public:
  explicit EvaluateLine(bool quiet) : quiet_(quiet), line_("evaluating", quiet) {}

  void show(const EvaluateProgress& progress) {
    const auto done = progress.windows_done, total = progress.windows_total;
    const std::string note = fmt::format("window {}/{}, perplexity {:.4f}", done, total, progress.perplexity);
    if (line_.on_terminal()) line_.show(static_cast<double>(done), static_cast<double>(total), note);
    else if (!quiet_ && done * 10 / total != (done - 1) * 10 / total) print_message(note);
  }

 private:
  bool quiet_;
  WorkLine line_;
};

Evaluation evaluated(const Arguments& arguments) {
  EvaluateOptions options = to_options(arguments);
  std::optional<LoadingLine> loading(std::in_place, arguments.reference.empty() ? arguments.model.model : "both models",
                                     arguments.model.common.quiet);
  options.on_load = [&](uint64_t done, uint64_t total) { loading->show(done, total); };
  std::optional<EvaluateLine> line;
  return evaluate(options, [&](const EvaluateProgress& progress) {
    loading.reset();
    if (!line) line.emplace(arguments.model.common.quiet);
    line->show(progress);
  });
}

int run(const Arguments& arguments) {
  if (!arguments.plot.empty() && arguments.reference.empty()) {
    throw Error(ErrorCode::kUsage, "--plot", "shows a comparison, which needs a --reference");
  }
  const Evaluation evaluation = evaluated(arguments);
  if (!arguments.model.common.quiet) {
    for (const std::string& warning : evaluation.warnings) print_message("warning: " + printable(warning));
  }
  if (!arguments.plot.empty()) {
    write_file_atomically(arguments.plot,
                          evaluation_plot(evaluation, fmt::format("{} against {}", arguments.model.model, arguments.reference)));
  }
  if (arguments.model.common.json) print_json(to_json(evaluation));
  else print_evaluation(evaluation);
  return 0;
}

}  // namespace

RunCommand register_eval(CLI::App& app) {
  auto* const command = app.add_subcommand("eval", "Perplexity on a text, and the KL divergence from a reference model");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("--reference", arguments->reference, "The model to compare with, usually the source")
      ->envname("TRITLLM_REFERENCE");
  command->add_option("--plot", arguments->plot, "Write an SVG picture of the comparison: error by layer, divergence by token");
  add_evaluation_options(*command, arguments->evaluation)->required();
  add_model_option(*command, arguments->model);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
