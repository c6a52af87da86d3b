// Owns `tritllm verify`.
#include "tasks/verify.h"

#include <fmt/format.h>

#include <memory>

#include "app/command.h"
#include "io/model_location.h"

namespace tritllm::app {
namespace {

struct Arguments {
  CommonOptions common;
  std::string path, source;
  size_t sample = 8;
};

std::vector<ModelProblem> problems_of(const Arguments& arguments) {
  ThreadPool pool(arguments.common.threads);
  const std::filesystem::path path = locate_model(arguments.path);
  std::vector<ModelProblem> problems = verify_model(path, pool);
  if (!problems.empty() || arguments.source.empty()) return problems;
  return verify_against_source(path, locate_model(arguments.source), arguments.sample, pool);
}

void print_report(const std::vector<ModelProblem>& problems) {
  Json errors = Json::array();
  for (const ModelProblem& problem : problems)
    errors.push_back({{"file", problem.file}, {"where", printable(problem.where)}, {"message", printable(problem.message)}});
  print_json({{"ok", problems.empty()}, {"errors", std::move(errors)}});
}

int run(const Arguments& arguments) {
  const std::vector<ModelProblem> problems = problems_of(arguments);
  if (arguments.common.json) {
    print_report(problems);
  } else {
    for (const ModelProblem& problem : problems)
      print_message(fmt::format("error: {}: {}", printable(problem.where), printable(problem.message)));
    if (problems.empty() && !arguments.common.quiet)
      print(fmt::format("{}: sound\n", printable(locate_model(arguments.path).string())));
  }
  return problems.empty() ? 0 : 1;
}

}  // namespace

RunCommand register_verify(CLI::App& app) {
  auto* const command = app.add_subcommand("verify", "Check a model: structure, checksums, impossible values");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("path", arguments->path, "Packed folder, Hugging Face folder or GGUF file")->required();
  add_option(*command, "--source", arguments->source, "Quantise some matrices again from this source and compare", "SOURCE");
  add_option(*command, "--sample", arguments->sample, "How many matrices to compare with --source; 0 takes all", "SAMPLE");
  add_common_options(*command, arguments->common);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
