// Owns `tritllm eval`.
#include <fmt/format.h>

#include <cstdint>
#include <memory>

#include "app/model_options.h"
#include "app/progress_bar.h"
#include "core/error.h"
#include "core/file.h"
#include "tasks/evaluate.h"
#include "tasks/evaluation_plot.h"

namespace tritllm::app {
namespace {

constexpr uint32_t kUsualWindow = 512;

struct Arguments {
  ModelArguments model;
  std::string reference, file, scored = "second-half", plot;
  uint64_t windows = 0;
};

EvaluateOptions to_options(const Arguments& arguments) {
  EvaluateOptions options;
  options.model = arguments.model.model;
  if (!arguments.reference.empty()) options.reference = arguments.reference;
  options.text = read_text(arguments.file);
  options.context = arguments.model.context == 0 ? kUsualWindow : arguments.model.context;
  options.windows = arguments.windows;
  options.scored = arguments.scored == "all" ? ScoredPart::kWholeWindow : ScoredPart::kSecondHalf;
  options.cache = cache_type(arguments.model);
  options.device = arguments.model.device;
  options.arithmetic = arithmetic(arguments.model);
  options.threads = arguments.model.common.threads;
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
  command
      ->add_option("--text-file,--text", arguments->file,
                   "A file with the text, whose line ends are read as \\n; - is standard input")
      ->required();
  command->add_option("--reference", arguments->reference, "The model to compare with, usually the source")
      ->envname("TRITLLM_REFERENCE");
  add_option(*command, "--windows", arguments->windows, "At most this many windows; 0: all that the text fills", "WINDOWS");
  add_option(*command, "--scored", arguments->scored, "What of each window counts: second-half, or all", "SCORED")
      ->check(CLI::IsMember({"second-half", "all"}));
  command->add_option("--plot", arguments->plot, "Write an SVG picture of the comparison: error by layer, divergence by token");
  // Not TRITLLM_CONTEXT: the context that a user likes to chat in must not change what is measured.
  add_option(*command, "-c,--window,--context", arguments->model.context, fmt::format("Tokens of a window; 0: {}", kUsualWindow),
             "WINDOW");
  add_model_option(*command, arguments->model);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
