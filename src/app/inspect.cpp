// Owns `tritllm inspect`.
#include "tasks/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>

#include "app/command.h"
#include "core/error.h"

namespace tritllm::app {
namespace {

struct Arguments {
  CommonOptions common;
  std::string path;
  bool tensors = false;
};

std::string shape_text(const Json& tensor) {
  return fmt::format("[{}]", fmt::join(tensor["shape"].get<std::vector<uint64_t>>(), ", "));
}

void print_packed(const Inspection& found, bool tensors) {
  const Json& json = found.summary;
  print(fmt::format("packed checkpoint, {} of {}\n", json["recipe"].get<std::string>(),
                    printable(json["source"]["name"].get<std::string>())));
  print(fmt::format("  {} of {} weights ternary: {:.2f} bits each nominal, {:.2f} stored\n", json["weights"].get<uint64_t>(),
                    json["all_weights"].get<uint64_t>(), json["nominal_bits_per_weight"].get<double>(),
                    json["stored_bits_per_weight"].get<double>()));
  if (json["file_bits_per_weight"].is_number()) {
    print(fmt::format("  weight files {}, {:.2f} bits per weight over all weights\n",
                      readable_bytes(json["packed_bytes"].get<uint64_t>()), json["file_bits_per_weight"].get<double>()));
  }
  if (!json["sqnr_db"].is_null()) print(fmt::format("  SQNR {:.2f} dB over all matrices\n", json["sqnr_db"].get<double>()));
  print(fmt::format("  source digest {}, made by tritllm {}\n", json["source"]["digest"].get<std::string>(),
                    printable(json["tool_version"].get<std::string>())));
  if (!tensors) return;
  for (size_t i = 0; i < found.tensor_count; ++i) {
    const Json tensor = found.tensor(i);
    const std::string fate = tensor["fate"].get<std::string>();
    const std::string depth = fate == "ternary" ? fmt::format(" d={}", tensor["depth"].get<int>()) : "";
    const std::string error =
        fate == "ternary" && !tensor["sqnr_db"].is_null() ? fmt::format("  {:.2f} dB", tensor["sqnr_db"].get<double>()) : "";
    print(fmt::format("  {} {} {}{}{}\n", printable(tensor["name"].get<std::string>()), shape_text(tensor), fate, depth, error));
  }
}

void print_unread(const Inspection& found, bool tensors) {
  const Json& json = found.summary;
  std::map<std::string, uint64_t> counts, unread;
  for (size_t i = 0; i < found.tensor_count; ++i) {
    const Json tensor = found.tensor(i);
    ++(tensor["is_read"].get<bool>() ? counts : unread)[tensor["type"].get<std::string>()];
  }
  print(fmt::format("{} tensors, {} weights\n", found.tensor_count, json["all_weights"].get<uint64_t>()));
  for (const auto& [type, count] : counts) print(fmt::format("  {} of type {}\n", count, printable(type)));
  for (const auto& [type, count] : unread) print(fmt::format("  {} of type {}, which is not read\n", count, printable(type)));
  print(fmt::format("  {}\n", json["problem"].get<std::string>()));
  if (!tensors) return;
  for (size_t i = 0; i < found.tensor_count; ++i) {
    const Json tensor = found.tensor(i);
    print(fmt::format("  {} {} {}\n", printable(tensor["name"].get<std::string>()), shape_text(tensor),
                      printable(tensor["type"].get<std::string>())));
  }
}

void print_source(const Inspection& found, bool tensors) {
  const Json& json = found.summary;
  print(fmt::format("{}, {} tensors, {} weights, {}\n",
                    json["kind"].get<std::string>() == "gguf" ? "GGUF file" : "Hugging Face folder", found.tensor_count,
                    json["all_weights"].get<uint64_t>(), readable_bytes(json["weight_bytes"].get<uint64_t>())));
  print(fmt::format("  {} weights in linear matrices would become ternary\n", json["matrix_weights"].get<uint64_t>()));
  for (const Json& warning : json["warnings"]) print(fmt::format("  warning: {}\n", printable(warning.get<std::string>())));
  if (!tensors) return;
  for (size_t i = 0; i < found.tensor_count; ++i) {
    const Json tensor = found.tensor(i);
    print(fmt::format("  {} {} {} {}\n", printable(tensor["name"].get<std::string>()), shape_text(tensor),
                      tensor["type"].get<std::string>(), tensor["role"].get<std::string>()));
  }
}

// As print_json(found.whole()), one tensor at a time.
void print_whole(const Inspection& found) {
  Json empty = found.summary;
  empty["tensors"] = Json::array();
  std::string frame = json_text(empty);
  constexpr std::string_view kEnd = "[]\n}\n";
  if (found.tensor_count == 0) return print_exactly(frame);
  frame.resize(frame.size() - kEnd.size());
  print_exactly(frame + "[");
  for (size_t i = 0; i < found.tensor_count; ++i) {
    std::string text = i == 0 ? "" : ",";
    std::istringstream lines(json_text(found.tensor(i)));
    for (std::string line; std::getline(lines, line);) text += "\n    " + line;
    print_exactly(text);
  }
  print_exactly("\n  ]\n}\n");
}

int run(const Arguments& arguments) {
  const Inspection found = inspect_model(arguments.path);
  const Json& kind = found.summary["kind"];
  if (arguments.common.json) print_whole(found);
  else if (kind == "packed") print_packed(found, arguments.tensors);
  else if (kind == "unread") print_unread(found, arguments.tensors);
  else print_source(found, arguments.tensors);
  return 0;
}

}  // namespace

RunCommand register_inspect(CLI::App& app) {
  auto* const command = app.add_subcommand("inspect", "Show what a model on disk holds");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("path", arguments->path, "Packed folder, Hugging Face folder or GGUF file")->required();
  command->add_flag("--tensors", arguments->tensors, "List every tensor");
  add_common_options(*command, arguments->common);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
