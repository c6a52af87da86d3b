// Owns `tritllm dequantize`.
#include "tasks/dequantize.h"

#include <fmt/format.h>

#include <memory>

#include "app/command.h"
#include "core/error.h"
#include "io/model_location.h"
#include "io/packed_checkpoint.h"

namespace tritllm::app {
namespace {

struct Arguments {
  CommonOptions common;
  std::string model, out, type;
};

int run(const Arguments& arguments) {
  ThreadPool pool(arguments.common.threads);
  const std::filesystem::path model = locate_model(arguments.model);
  const bool packed = is_packed_checkpoint(model);
  if (packed && arguments.type == "f32") {
    throw Error(ErrorCode::kUsage, "--type", "a packed checkpoint decodes to FP16, so that its bytes are those of the FP16 folder");
  }
  const auto warn = [&](const std::string& warning) {
    if (!arguments.common.quiet) print_message("warning: " + printable(warning, 2000));
  };
  if (packed) dequantize_packed(model, arguments.out, pool, warn);
  else write_plain_model(model, arguments.out, arguments.type == "f16" ? ElementType::kF16 : ElementType::kF32, pool, warn);
  if (arguments.common.json) print_json({{"model", model.string()}, {"out", arguments.out}});
  else if (!arguments.common.quiet) print_message(fmt::format("wrote {}", printable(arguments.out)));
  return 0;
}

}  // namespace

RunCommand register_dequantize(CLI::App& app) {
  auto* const command =
      app.add_subcommand("dequantize", "Turn a packed checkpoint or a GGUF file into an ordinary Hugging Face folder");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("model", arguments->model, "Packed folder, or GGUF file")->required();
  command->add_option("out", arguments->out, "Folder to make")->required();
  command->add_option("--type", arguments->type, "f16 or f32; packed folders always give f16, others f32 unless told")
      ->check(CLI::IsMember({"f16", "f32"}))
      ->envname("TRITLLM_TYPE");
  add_common_options(*command, arguments->common);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
