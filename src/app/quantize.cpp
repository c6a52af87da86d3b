// Owns `tritllm quantize`, and `tritllm pack`, which is its recipe exact.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app/command.h"
#include "app/progress_bar.h"
#include "core/error.h"
#include "core/json.h"
#include "tasks/quantize_model.h"

namespace tritllm::app {
namespace {

struct Arguments {
  CommonOptions common;
  std::string model, out, device = "auto", max_memory = "2G", shard, name, base_model, license;
  std::vector<std::string> calibration;
  uint32_t calibration_sequences = CalibrationText().sequences, calibration_tokens = CalibrationText().tokens;
  uint64_t seed = 0;
  double bits = 0;
  std::string size;
  std::vector<std::string> configs{"optimal-d2"}, emit{"packed", "model"}, depth_rules;
  int embedding_depth = 0, head_depth = 0;
  bool dry_run = false, fresh = false;
};

std::atomic<int> signal_seen{0};

// The first signal lets the run write down that it was interrupted; a second one of the same kind ends it at once.
void watch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int number) { signal_seen = number; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction former {};
    // What the caller had set aside, as nohup does, stays set aside.
    if (::sigaction(number, nullptr, &former) == 0 && former.sa_handler == SIG_DFL) ::sigaction(number, &action, nullptr);
  }
}

// Ends the process as the signal would have done, so that a shell sees it.
void end_by_signal(int number) {
  ::signal(number, SIG_DFL);
  ::raise(number);
}

Part parse_part(const std::string& text) {
  unsigned long long index = 0, count = 0;
  int used = 0;
  if (std::sscanf(text.c_str(), "%llu/%llu%n", &index, &count, &used) != 2 || static_cast<size_t>(used) != text.size() ||
      index < 1 || index > count || count > 100'000) {
    throw Error(ErrorCode::kUsage, "--shard", fmt::format("expected i/n with 1 <= i <= n, found '{}'", text));
  }
  return {index, count};
}

QuantizeOptions to_options(const Arguments& arguments) {
  QuantizeOptions options;
  options.model = arguments.model;
  for (const std::string& name : arguments.configs) options.configs.push_back(codec::parse_config(name));
  options.output.folder = arguments.out;
  options.output.emit_packed = options.output.emit_model = false;
  for (const std::string& name : arguments.emit) {
    if (name == "packed") options.output.emit_packed = true;
    else if (name == "model") options.output.emit_model = true;
    else throw Error(ErrorCode::kUsage, "--emit", fmt::format("expected packed, model or both, found '{}'", name));
  }
  options.output.fresh = arguments.fresh;
  if (!arguments.shard.empty()) options.output.part = parse_part(arguments.shard);
  for (const std::string& rule : arguments.depth_rules) options.policy.rules.push_back(parse_depth_rule(rule));
  if (arguments.embedding_depth != 0) options.policy.embedding_depth = arguments.embedding_depth;
  if (arguments.head_depth != 0) options.policy.head_depth = arguments.head_depth;
  if (!arguments.name.empty()) options.card.name = arguments.name;
  if (!arguments.license.empty()) options.card.license = arguments.license;
  if (!arguments.base_model.empty()) {
    options.card.base_model = hub_id(arguments.base_model);
    if (!options.card.base_model) {
      throw Error(ErrorCode::kUsage, "--base-model",
                  fmt::format("expected OWNER/NAME, found '{}'", printable(arguments.base_model)));
    }
  }
  options.calibration.files.assign(arguments.calibration.begin(), arguments.calibration.end());
  options.calibration.sequences = arguments.calibration_sequences;
  options.calibration.tokens = arguments.calibration_tokens;
  options.calibration.seed = arguments.seed;
  if (arguments.bits != 0) options.bits = arguments.bits;
  if (!arguments.size.empty()) options.size = parse_bytes(arguments.size, "--size");
  options.device = arguments.device;
  options.threads = arguments.common.threads;
  options.max_memory = parse_bytes(arguments.max_memory, "--max-memory");
  return options;
}

// The name with its layer numbers as N, so that alike tensors share a line.
std::string name_of_kind(const std::string& name) {
  std::string kind;
  for (size_t at = 0; at < name.size();) {
    const bool starts_part = at == 0 || name[at - 1] == '.';
    const size_t end = std::min(name.find('.', at), name.size());
    const bool is_number = starts_part && end > at && name.find_first_not_of("0123456789", at) >= end;
    kind += is_number ? "N" : name.substr(at, end - at);
    if (end < name.size()) kind += '.';
    at = end + 1;
  }
  return kind;
}

// What becomes of every tensor, a line for each kind.
void print_fates(const Json& tensors) {
  std::vector<std::pair<std::string, size_t>> lines;
  for (const Json& tensor : tensors) {
    const auto depth = tensor["depth"].get<int>();
    const std::string fate = tensor["fate"].get<std::string>() + (depth > 0 ? fmt::format(" d{}", depth) : "");
    const std::string line = fmt::format("{:<10} {:<10} {} {} {}", fate, tensor["role"].get<std::string>(),
                                         printable(name_of_kind(tensor["name"].get<std::string>())), tensor["shape"].dump(),
                                         tensor["type"].get<std::string>());
    const auto same = std::ranges::find(lines, line, &std::pair<std::string, size_t>::first);
    if (same == lines.end()) lines.emplace_back(line, 1);
    else ++same->second;
  }
  for (const auto& [line, count] : lines) print(fmt::format("    {:>5} {}\n", count, line));
}

void print_plan(const Json& plan) {
  print(fmt::format("{}: {} tensors, {} weights\n", printable(plan["model"].get<std::string>()), plan["tensors"].get<uint64_t>(),
                    plan["all_weights"].get<uint64_t>()));
  for (const Json& config : plan["configs"]) {
    print(fmt::format("  {:<12} packed {}; {} weights become ternary, {:.2f} bits each; {} to write\n",
                      config["config"].get<std::string>(), readable_bytes(config["packed_bytes"].get<uint64_t>()),
                      config["weights"].get<uint64_t>(), config["stored_bits_per_weight"].get<double>(),
                      config["complete"].get<bool>() ? "nothing" : readable_bytes(config["bytes_to_write"].get<uint64_t>())));
    print_fates(config["tensors"]);
  }
  for (const Json& warning : plan["warnings"]) print_message("warning: " + printable(warning.get<std::string>()));
  print(fmt::format("architecture {}: {}\n", printable(plan["architecture"].get<std::string>()),
                    plan["engine_runs_it"].get<bool>() ? "the engine runs it" : "the engine does not run it; transformers does"));
  print(fmt::format("disk {}, memory {}, about {} on {} threads\n", readable_bytes(plan["bytes_to_write"].get<uint64_t>()),
                    readable_bytes(plan["memory_bytes"].get<uint64_t>()), readable_seconds(plan["estimated_seconds"].get<double>()),
                    plan["threads"].get<unsigned>()));
}

// The size of the file comes first: it is what people compare, and bits of a ternary weight say little of it.
void print_result(const ConfigResult& result) {
  const Json& report = result.report;
  const auto packed = report["packed_bytes"].get<uint64_t>();
  const std::string size = packed > 0 ? fmt::format("packed {}, {:.2f} bits per weight over the whole file", readable_bytes(packed),
                                                    report["file_bits_per_weight"].get<double>())
                                      : fmt::format("model {}", readable_bytes(report["model_bytes"].get<uint64_t>()));
  print(fmt::format("{}: {}; {:.2f} bits per ternary weight, {}{}\n", result.config, size,
                    report["stored_bits_per_weight"].get<double>(),
                    report["sqnr_db"].is_null() ? "without loss" : fmt::format("SQNR {:.2f} dB", report["sqnr_db"].get<double>()),
                    result.was_complete ? " (was complete)" : ""));
  const auto embeddings = report.find("kept_embeddings");
  if (embeddings == report.end() || embeddings->is_null()) return;
  const auto kept = (*embeddings)["bytes"].get<uint64_t>();
  if (4 * kept <= packed) return;
  std::string options = (*embeddings)["embedding"].get<bool>() ? "--embed-depth 4" : "";
  if ((*embeddings)["head"].get<bool>()) options += options.empty() ? "--head-depth 4" : " --head-depth 4";
  print(fmt::format("  {} of it are embeddings and head that are kept ({:.0f} %); with {} the file has {}\n", readable_bytes(kept),
                    100.0 * static_cast<double>(kept) / static_cast<double>(packed), options,
                    readable_bytes((*embeddings)["packed_bytes_if_packed"].get<uint64_t>())));
}

void print_results(const std::vector<ConfigResult>& results, const Arguments& arguments) {
  for (const ConfigResult& result : results) {
    if (result.report.is_null()) {
      print(fmt::format("{}: part {} {}\n", result.config, arguments.shard, result.was_complete ? "was complete" : "done"));
      continue;
    }
    print_result(result);
  }
}

int run(const Arguments& arguments) {
  QuantizeOptions options = to_options(arguments);
  if (arguments.dry_run) {
    const Json plan = plan_quantization(options);
    if (arguments.common.json) print_json(plan);
    else print_plan(plan);
    return 0;
  }
  ProgressBar bar;
  if (!arguments.common.quiet) {
    options.on_progress = [&](const QuantizeProgress& progress) { bar.show(progress); };
    options.on_warning = [](const std::string& warning) { print_message("warning: " + printable(warning)); };
  }
  watch_signals();
  options.should_stop = [] { return signal_seen != 0; };
  std::vector<ConfigResult> results;
  try {
    results = quantize_model(options);
  } catch (const Interrupted& interrupted) {
    bar.finish();
    print_message(fmt::format("error: {}", interrupted.what()));
    end_by_signal(signal_seen);
    return 1;
  }
  bar.finish();
  if (arguments.common.json) {
    Json json = Json::array();
    for (const ConfigResult& result : results) {
      json.push_back({{"config", result.config}, {"was_complete", result.was_complete}, {"report", result.report}});
    }
    print_json(json);
  } else {
    print_results(results, arguments);
  }
  return 0;
}

void add_result_options(CLI::App& command, Arguments& a) {
  command
      .add_option("--depth", a.depth_rules,
                  "'REGEX=D': matrices with a matching name get depth D (1 to 4, or keep); may be repeated")
      ->allow_extra_args(false)
      ->envname("TRITLLM_DEPTH");
  command.add_option("--embed-depth", a.embedding_depth, "Quantise the token embedding too, at this depth")
      ->check(CLI::Range(1, 4))
      ->envname("TRITLLM_EMBED_DEPTH");
  command.add_option("--head-depth", a.head_depth, "Quantise the output head too, at this depth")
      ->check(CLI::Range(1, 4))
      ->envname("TRITLLM_HEAD_DEPTH");
  command.add_option("--name", a.name,
                     "Name of the model for cards, NAME or OWNER/NAME; default: what its files or its place tell");
  command.add_option("--base-model", a.base_model, "OWNER/NAME of the source on the hub, for cards");
  command.add_option("--license", a.license, "Licence of the source for cards, such as apache-2.0; default: what its files tell");
  add_option(command, "--max-memory", a.max_memory, "Limit of memory, e.g. 512M", "MAX_MEMORY");
  add_option(command, "--shard", a.shard, "i/n: quantise only the i-th of n parts; 'tritllm merge' joins them", "SHARD");
  command.add_flag("--dry-run", a.dry_run, "Show sizes, memory and time; write nothing")->envname("TRITLLM_DRY_RUN");
  command.add_flag("--fresh", a.fresh, "Discard unfinished work and replace former results")->envname("TRITLLM_FRESH");
  add_common_options(command, a.common);
}

}  // namespace

RunCommand register_quantize(CLI::App& app) {
  auto* const command = app.add_subcommand("quantize", "Turn a model's matrices into balanced ternary");
  const auto arguments = std::make_shared<Arguments>();
  Arguments& a = *arguments;
  add_option(*command, "-m,--model", a.model, "Hugging Face model folder, or GGUF file", "MODEL")->required();
  add_option(*command, "-o,--out", a.out, "Folder for the results: OUT/CONFIG/packed, OUT/CONFIG/model, OUT/CONFIG/report.json",
             "OUT")
      ->required();
  add_option(*command, "--configs", a.configs,
             "RECIPE-dD, several with commas: uniform-d1..d4, optimal-d1..d4, calibrated-d1..d4; calibrated with --bits or --size; "
             "or exact",
             "CONFIGS")
      ->delimiter(',');
  add_option(*command, "--emit", a.emit, "What to write: packed, model (FP16), or both", "EMIT")->delimiter(',');
  command
      ->add_option("--calibration", a.calibration,
                   "Text file for calibrated recipes; may be repeated. Default: the model writes the text itself")
      ->allow_extra_args(false)
      ->envname("TRITLLM_CALIBRATION");
  command->add_option("--calibration-sequences", a.calibration_sequences, "Sequences of the calibration text")
      ->check(CLI::Range(1, 65536))
      ->envname("TRITLLM_CALIBRATION_SEQUENCES");
  command->add_option("--calibration-tokens", a.calibration_tokens, "Tokens of each sequence")
      ->check(CLI::Range(16, 65536))
      ->envname("TRITLLM_CALIBRATION_TOKENS");
  add_option(*command, "--device", a.device, "Where calibrated recipes compute: cpu, cuda, cuda:N or auto", "DEVICE");
  command->add_option("--bits", a.bits, "Of configuration calibrated: stored bits a weight on average, 1.9 to 6.7")
      ->check(number_between(1.9, 6.7))
      ->envname("TRITLLM_BITS");
  add_option(*command, "--size", a.size, "Of configuration calibrated: bytes of the whole packed file, e.g. 100M", "SIZE");
  command->add_option("--seed", a.seed, "Of the text that the model writes itself")->envname("TRITLLM_SEED");
  add_result_options(*command, a);
  return [arguments] { return run(*arguments); };
}

RunCommand register_pack(CLI::App& app) {
  auto* const command = app.add_subcommand("pack", "Pack a model whose matrices are ternary already, without changing a value");
  const auto arguments = std::make_shared<Arguments>();
  Arguments& a = *arguments;
  a.configs = {"exact"};
  a.emit = {"packed"};
  add_option(*command, "-m,--model", a.model, "Hugging Face model folder in FP16, BF16 or F32", "MODEL")->required();
  add_option(*command, "-o,--out", a.out, "Folder for the results: OUT/exact/packed, OUT/exact/report.json", "OUT")->required();
  add_result_options(*command, a);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
