// Owns `tritllm tokenize`.
#include <memory>

#include "app/model_options.h"
#include "core/error.h"

namespace tritllm::app {
namespace {

struct Arguments {
  CommonOptions common;
  std::string model, file;
  std::optional<std::string> text;
  bool no_special = false, parse_special = false;
};

int run(const Arguments& arguments) {
  if (arguments.text.has_value() == !arguments.file.empty()) {
    throw Error(ErrorCode::kUsage, "tokenize", "expected either --text or --file");
  }
  const Tokenizer tokenizer = load_tokenizer(arguments.model);
  const std::string text = arguments.text ? *arguments.text : read_text(arguments.file);
  const Json ids = tokenizer.encode(text, {.add_special = !arguments.no_special, .parse_special = arguments.parse_special});
  print(ids.dump() + "\n");
  return 0;
}

}  // namespace

RunCommand register_tokenize(CLI::App& app) {
  auto* const command = app.add_subcommand("tokenize", "Print the token ids of a text as a JSON array");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("-m,--model", arguments->model, "Folder with a tokenizer.json, or GGUF file")
      ->envname("TRITLLM_MODEL")
      ->required();
  command->add_option("--text", arguments->text, "The text");
  command->add_option("--file", arguments->file, "A file with the text; - is standard input");
  command->add_flag("--no-special", arguments->no_special, "Leave out the tokens that the tokenizer puts around a text");
  command->add_flag("--parse-special", arguments->parse_special, "Names of control tokens in the text become these tokens");
  add_common_options(*command, arguments->common);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
