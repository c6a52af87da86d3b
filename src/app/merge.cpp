// Owns `tritllm merge`.
#include "tasks/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "app/command.h"

namespace tritllm::app {
namespace {

struct Arguments {
  CommonOptions common;
  std::vector<std::string> folders, emit{"packed", "model"};
  std::string out;
};

int run(const Arguments& arguments) {
  ThreadPool pool(arguments.common.threads);
  MergeRequest request;
  request.folders.assign(arguments.folders.begin(), arguments.folders.end());
  request.out = arguments.out.empty() ? arguments.folders.front() : arguments.out;
  const auto wanted = [&](const char* name) {
    return std::find(arguments.emit.begin(), arguments.emit.end(), name) != arguments.emit.end();
  };
  request.emit_packed = wanted("packed");
  request.emit_model = wanted("model");
  const std::vector<Json> reports = merge_parts(request, pool);
  if (arguments.common.json) {
    print_json(reports);
    return 0;
  }
  for (const Json& report : reports) {
    print(fmt::format("{}: {} tensors, {:.2f} bits per weight stored\n", report["recipe"].get<std::string>(),
                      report["tensors"].size(), report["stored_bits_per_weight"].get<double>()));
  }
  return 0;
}

}  // namespace

RunCommand register_merge(CLI::App& app) {
  auto* const command = app.add_subcommand("merge", "Join the parts that 'quantize --shard i/n' made");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("folders", arguments->folders, "The --out folders of the runs, one where they shared it")->required();
  add_option(*command, "-o,--out", arguments->out, "Where the whole model goes; the first folder where not given", "OUT");
  add_option(*command, "--emit", arguments->emit, "What to write: packed, model (FP16), or both", "EMIT")
      ->delimiter(',')
      ->check(CLI::IsMember({"packed", "model"}));
  add_common_options(*command, arguments->common);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
