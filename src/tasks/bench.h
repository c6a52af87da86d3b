// Owns the measurement of speed: prompts of N tokens (ppN) and answers of N tokens (tgN), as llama-bench names them. Choosing each
// token of an answer is part of its time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "engine/language_model.h"
#include "tasks/synthetic_model.h"

namespace tritllm {

struct BenchTest {
  bool prompt;  // a prompt is computed, in batches; else an answer, token by token
  uint32_t tokens;
  std::string name() const;  // "pp512", "tg128"
};

// "pp512,tg128".
std::vector<BenchTest> parse_bench_tests(std::string_view text);

struct BenchOptions {
  std::filesystem::path model;  // or
  std::optional<SyntheticModel> synthetic;
  std::vector<BenchTest> tests;
  uint32_t repetitions = 5;
  uint32_t batch = 1;           // sequences that advance together; rates count the tokens of all
  uint32_t context_before = 0;  // tokens that are in the cache before a test begins
  DrawSettings draw;            // how tokens of answers are chosen; `uniform` is another number for each
  std::string device = "cpu";
  Arithmetic arithmetic = Arithmetic::kInteger;
  unsigned threads = 0;
  CacheType cache = CacheType::kFloat16;
  uint32_t batch_tokens = 0;  // of a forward pass; 0: as many as suit the device
  LoadProgress on_load;
  // Before the first run of a test, which warms up, and after each run.
  std::function<void(const BenchTest& test, uint32_t runs_done, uint32_t runs_total)> on_progress;
};

struct BenchRow {
  std::string model, test, device;
  int depth;  // 0 where weights are not ternary or depths differ
  unsigned threads;
  uint32_t batch;
  std::vector<double> seconds;  // of each repetition
  double tokens_per_second, stddev;
  uint64_t weight_bytes_per_token;
  double gigabytes_per_second;  // of weights, for tests of answers; of a prompt they are read once for many tokens
  DrawSettings draw;            // how tokens of answers were chosen
};

std::vector<BenchRow> run_bench(const BenchOptions& options, const std::function<void(const BenchRow&)>& on_row);

Json to_json(const BenchRow& row);

}  // namespace tritllm
