// Owns `tritllm bench`.
#include "tasks/bench.h"

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "app/model_options.h"
#include "app/progress_bar.h"
#include "core/error.h"

namespace tritllm::app {
namespace {

struct Arguments {
  ModelArguments model;
  SyntheticModel synthetic;
  std::string tests = "pp512,tg128", format = "md";
  uint32_t repetitions = 5, context_before = 0, batch = 1;
  SamplingArguments sampling;
};

BenchOptions to_options(const Arguments& arguments) {
  BenchOptions options;
  if (arguments.model.model.empty() == arguments.synthetic.shape.empty()) {
    throw Error(ErrorCode::kUsage, "bench", "expected either --model or --synthetic");
  }
  options.model = arguments.model.model;
  if (!arguments.synthetic.shape.empty()) options.synthetic = arguments.synthetic;
  options.tests = parse_bench_tests(arguments.tests);
  options.repetitions = arguments.repetitions;
  options.context_before = arguments.context_before;
  options.batch = arguments.batch;
  options.draw = draw_settings(arguments.sampling);
  options.device = arguments.model.device;
  options.arithmetic = arithmetic(arguments.model);
  options.threads = arguments.model.common.threads;
  options.cache = cache_type(arguments.model);
  return options;
}

std::string markdown(const BenchRow& row) {
  const std::string rate = row.gigabytes_per_second > 0 ? fmt::format("{:.2f}", row.gigabytes_per_second) : "";
  return fmt::format(
      "| {} | {} | {} | {} | {} | {:.2f} ± {:.2f} | {} |\n", row.model, row.depth == 0 ? "" : std::to_string(row.depth), row.device,
      row.threads,
      (row.batch == 1 ? row.test : fmt::format("{} × {}", row.test, row.batch)) + (row.draw.temperature > 0 ? ", drawn" : ""),
      row.tokens_per_second, row.stddev, rate);
}

std::string csv(const BenchRow& row) {
  return fmt::format("\"{}\",{},\"{}\",{},{},{:.6f},{:.6f},{},{:.6f},{},{},{},{},{},{}\n", row.model, row.depth, row.device,
                     row.threads, row.test, row.tokens_per_second, row.stddev, row.weight_bytes_per_token, row.gigabytes_per_second,
                     row.batch, row.draw.temperature, row.draw.top_k, row.draw.top_p, row.draw.min_p, row.draw.typical_p);
}

// Loading, then each test by itself: a token of a prompt and one of an answer take different times.
class BenchLine {
 public:
  explicit BenchLine(const Arguments& arguments)
      : quiet_(arguments.model.common.quiet), loading_(std::in_place, arguments.model.model + arguments.synthetic.shape, quiet_) {}

  void show_loading(uint64_t bytes_done, uint64_t bytes_total) { loading_->show(bytes_done, bytes_total); }

  void show(const BenchTest& test, uint32_t runs_done, uint32_t runs_total) {
    loading_.reset();
    if (runs_done == 0) line_.emplace(test.name(), quiet_);
    line_->show(runs_done, runs_total, fmt::format("run {}/{}", runs_done, runs_total));
    if (runs_done == runs_total) line_.reset();
  }

 private:
  bool quiet_;
  std::optional<LoadingLine> loading_;
  std::optional<WorkLine> line_;
};

int run(const Arguments& arguments) {
  const std::string format = arguments.model.common.json ? "json" : arguments.format;
  BenchLine line(arguments);
  BenchOptions options = to_options(arguments);
  options.on_load = [&](uint64_t done, uint64_t total) { line.show_loading(done, total); };
  options.on_progress = [&](const BenchTest& test, uint32_t done, uint32_t total) { line.show(test, done, total); };
  if (format == "md") {
    print("| model | depth | device | threads | test | tokens/s | weights GB/s |\n|---|---|---|---|---|---|---|\n");
  } else if (format == "csv") {
    print(
        "model,depth,device,threads,test,tokens_per_second,stddev,weight_bytes_per_token,gigabytes_per_second,batch,temperature,"
        "top_k,top_p,min_p,typical_p\n");
  }
  const std::vector<BenchRow> rows = run_bench(options, [&](const BenchRow& row) {
    if (format == "md") print(markdown(row));
    if (format == "csv") print(csv(row));
    if (format == "jsonl") print_json(to_json(row), -1);
  });
  if (format != "json") return 0;
  Json all = Json::array();
  for (const BenchRow& row : rows) all.push_back(to_json(row));
  print_json(all);
  return 0;
}

}  // namespace

RunCommand register_bench(CLI::App& app) {
  auto* const command = app.add_subcommand("bench", "Measure speed: prompts (ppN) and answers (tgN) of N tokens");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("-m,--model", arguments->model.model, "Packed folder, Hugging Face folder or GGUF file")
      ->envname("TRITLLM_MODEL");
  command->add_option("--synthetic", arguments->synthetic.shape, "Instead: random weights in the shape of " + synthetic_shapes());
  add_option(*command, "--synthetic-depth,--depth", arguments->synthetic.depth, "Trits per weight of the synthetic model; 0: FP16",
             "SYNTHETIC_DEPTH")
      ->check(CLI::Range(0, 4));
  add_option(*command, "--synthetic-head-depth,--head-depth", arguments->synthetic.head_depth,
             "Of the synthetic model's output head; 0: FP16", "SYNTHETIC_HEAD_DEPTH")
      ->check(CLI::Range(0, 4));
  add_option(*command, "--vocab", arguments->synthetic.vocabulary, "Vocabulary of the synthetic model; 0: the shape's", "VOCAB")
      ->check(CLI::Range(0u, 1u << 20));
  add_option(*command, "--tests", arguments->tests, "What to measure, with commas", "TESTS");
  add_option(*command, "--repetitions", arguments->repetitions, "Measured runs of each test", "REPETITIONS")
      ->check(CLI::Range(1u, 10000u));
  add_option(*command, "--batch", arguments->batch, "Sequences that advance together; rates count the tokens of all", "BATCH")
      ->check(CLI::Range(1u, static_cast<uint32_t>(kLogitRows)));
  add_option(*command, "--context-before", arguments->context_before, "Tokens in the cache before a test begins", "CONTEXT_BEFORE")
      ->check(CLI::Range(0u, 1u << 20));
  add_draw_options(*command, arguments->sampling);
  add_option(*command, "--format", arguments->format, "md, csv, json or jsonl", "FORMAT")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl"}));
  add_device_options(*command, arguments->model);
  return [arguments] { return run(*arguments); };
}

}  // namespace tritllm::app
