#include "app/evaluation_options.h"

#include <fmt/format.h>

namespace tritllm::app {

namespace {

constexpr uint32_t kUsualWindow = 512;

}  // namespace

CLI::Option* add_evaluation_options(CLI::App& command, EvaluationArguments& arguments) {
  auto* const text = command.add_option("--text-file,--text", arguments.file,
                                        "A file with the text, whose line ends are read as \\n; - is standard input");
  add_option(command, "--windows", arguments.windows, "At most this many windows; 0: all that the text fills", "WINDOWS");
  add_option(command, "--scored", arguments.scored, "What of each window counts: second-half, or all", "SCORED")
      ->check(CLI::IsMember({"second-half", "all"}));
  // Not TRITLLM_CONTEXT: the context that a user likes to chat in must not change what is measured.
  add_option(command, "-c,--window,--context", arguments.window, fmt::format("Tokens of a window; 0: {}", kUsualWindow), "WINDOW");
  return text;
}

EvaluateOptions evaluate_options(const EvaluationArguments& arguments, const ModelArguments& model) {
  EvaluateOptions options;
  options.text = read_text(arguments.file);
  options.context = arguments.window == 0 ? kUsualWindow : arguments.window;
  options.windows = arguments.windows;
  options.scored = arguments.scored == "all" ? ScoredPart::kWholeWindow : ScoredPart::kSecondHalf;
  options.cache = cache_type(model);
  options.device = model.device;
  options.arithmetic = arithmetic(model);
  options.threads = model.common.threads;
  return options;
}

}  // namespace tritllm::app
