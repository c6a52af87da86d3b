#include "tasks/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "model/plain_sequences.h"

namespace tritllm {

namespace {

constexpr uint32_t kMostTokens = 1 << 20;

// A model whose speed is measured. Tokens do not matter, so they are counted up.
class BenchedModel {
 public:
  BenchedModel(ModelFiles files, const BenchOptions& options, uint32_t positions, ThreadPool& pool)
      : backend_(make_backend(options.device, options.arithmetic, pool, device_bytes(files))),
        model_(std::move(files), {.positions = positions, .batch_tokens = options.batch_tokens, .positions_field = "options.tests"},
               *backend_),
        sequence_(model_, 1, options.cache),
        logits_(model_.config().vocabulary) {}

  Model& model() noexcept { return model_; }

  void read_prompt(uint32_t first, uint32_t count) {
    const uint32_t end = first + count;
    for (uint32_t at = first; at < end; at += model_.limits().batch_tokens) {
      pass(at, std::min(model_.limits().batch_tokens, end - at));
    }
    sequence_.logits(0, 1, logits_);
  }

  void write_answer(uint32_t first, uint32_t count) {
    for (uint32_t position = first; position < first + count; ++position) {
      pass(position, 1);
      sequence_.logits(0, 1, logits_);
    }
  }

 private:
  void pass(uint32_t first, uint32_t count) {
    tokens_.clear();
    places_.clear();
    for (uint32_t i = 0; i < count; ++i) {
      tokens_.push_back((first + i) % model_.config().vocabulary);
      places_.push_back({0, first + i});
    }
    const uint32_t last = count - 1;
    sequence_.forward(tokens_, places_, {&last, 1});
  }

  std::unique_ptr<Backend> backend_;
  Model model_;
  PlainSequences sequence_;
  std::vector<float> logits_;
  std::vector<uint32_t> tokens_;
  std::vector<TokenPlace> places_;
};

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The depth that all ternary matrices have, or 0.
int common_depth(const ModelFiles& files) {
  int depth = 0;
  for (const auto& [name, source] : files.weights) {
    const TernaryMatrix* const matrix = source.ternary();
    if (matrix == nullptr) continue;
    if (depth != 0 && depth != matrix->depth) return 0;
    depth = matrix->depth;
  }
  return depth;
}

void add_rates(BenchRow& row, const BenchTest& test) {
  std::vector<double> rates;
  for (const double seconds : row.seconds) rates.push_back(test.tokens / seconds);
  const auto count = static_cast<double>(rates.size());
  row.tokens_per_second = std::accumulate(rates.begin(), rates.end(), 0.0) / count;
  double squares = 0.0;
  for (const double rate : rates) squares += (rate - row.tokens_per_second) * (rate - row.tokens_per_second);
  row.stddev = rates.size() < 2 ? 0.0 : std::sqrt(squares / (count - 1.0));
  row.gigabytes_per_second = test.prompt ? 0.0 : row.tokens_per_second * static_cast<double>(row.weight_bytes_per_token) * 1e-9;
}

}  // namespace

std::string BenchTest::name() const { return fmt::format("{}{}", prompt ? "pp" : "tg", tokens); }

std::vector<BenchTest> parse_bench_tests(std::string_view text) {
  std::vector<BenchTest> tests;
  for (bool more = true; more;) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view word = text.substr(0, comma), number = word.substr(std::min<size_t>(2, word.size()));
    uint32_t tokens = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), tokens);
    const bool known = word.starts_with("pp") || word.starts_with("tg");
    if (!known || error != std::errc() || end != number.data() + number.size() || tokens == 0 || tokens > kMostTokens) {
      throw Error(ErrorCode::kUsage, "options.tests",
                  fmt::format("expected names like pp512 or tg128, found '{}'", printable(word)));
    }
    tests.push_back({word.starts_with("pp"), tokens});
    more = comma < text.size();
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return tests;
}

std::vector<BenchRow> run_bench(const BenchOptions& options, const std::function<void(const BenchRow&)>& on_row) {
  ThreadPool pool(options.threads);
  ModelFiles files = options.synthetic ? make_synthetic_model(*options.synthetic, pool) : open_model_files(options.model, pool);
  files.on_progress = options.on_load;
  uint32_t longest = 0;
  for (const BenchTest& test : options.tests) longest = std::max(longest, test.tokens);
  const std::string name = files.path.filename().empty() ? files.path.parent_path().filename() : files.path.filename();
  const int depth = common_depth(files);
  BenchedModel benched(std::move(files), options, options.context_before + longest, pool);
  std::vector<BenchRow> rows;
  for (const BenchTest& test : options.tests) {
    const auto work = [&] {
      if (test.prompt) benched.read_prompt(options.context_before, test.tokens);
      else benched.write_answer(options.context_before, test.tokens);
    };
    uint32_t runs = 0;
    const auto report = [&] {
      if (options.on_progress) options.on_progress(test, runs++, options.repetitions + 1);
    };
    report();
    if (options.context_before > 0) benched.read_prompt(0, options.context_before);
    work();  // brings weights into memory
    report();
    BenchRow row{name, test.name(), benched.model().backend().description(),  depth, pool.threads(), {},
                 0,    0,           benched.model().weight_bytes_per_token(), 0};
    for (uint32_t i = 0; i < options.repetitions; ++i) {
      row.seconds.push_back(seconds_of(work));
      report();
    }
    add_rates(row, test);
    on_row(row);
    rows.push_back(std::move(row));
  }
  return rows;
}

Json to_json(const BenchRow& row) {
  return {{"model", row.model},
          {"depth", row.depth},
          {"test", row.test},
          {"threads", row.threads},
          {"device", row.device},
          {"tokens_per_second", row.tokens_per_second},
          {"stddev", row.stddev},
          {"weight_bytes_per_token", row.weight_bytes_per_token},
          {"gigabytes_per_second", row.test.starts_with("tg") ? Json(row.gigabytes_per_second) : Json(nullptr)},
          {"seconds", row.seconds}};
}

}  // namespace tritllm
