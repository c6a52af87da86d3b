#include "tasks/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>

#include "core/error.h"
#include "io/decoder_tensors.h"
#include "model/model.h"

namespace tritllm {

namespace {

constexpr uint32_t kMostTokens = 1 << 20;

// The sequences that advance together, whose rows and cache must fit.
uint32_t fitting_batch(const Model& model, const BenchOptions& options) {
  const uint32_t most = std::min(model.limits().batch_tokens, model.limits().logit_rows);
  if (options.batch > most) {
    throw Error(ErrorCode::kUsage, "options.batch",
                fmt::format("{} sequences were asked for, the work space of this model has room for {}", options.batch, most));
  }
  require_memory(model.backend(), model.cache_bytes(options.batch * model.pages_per_sequence(), options.cache), "options.batch",
                 fmt::format("keys and values of {} sequences", options.batch));
  return options.batch;
}

// A model whose speed is measured, with `batch` sequences that advance together. Tokens of prompts do not matter, so they are
// counted up. Tokens of answers are chosen as the engine does it, and where the device works by itself, the next pass begins before
// the host has seen the choice.
class BenchedModel {
 public:
  BenchedModel(ModelFiles files, const BenchOptions& options, uint32_t positions, ThreadPool& pool)
      : backend_(make_backend(options.device, options.arithmetic, pool, device_bytes(files))),
        model_(std::move(files),
               {.positions = positions,
                .batch_tokens =
                    std::max(options.batch_tokens == 0 ? backend_->usual_batch_tokens() : options.batch_tokens, options.batch),
                .positions_field = "options.tests"},
               *backend_),
        batch_(fitting_batch(model_, options)),
        cache_(model_.make_cache(batch_ * model_.pages_per_sequence(), options.cache)),
        pages_(size_t{batch_} * model_.pages_per_sequence()),
        draws_(batch_, options.draw),
        chosen_tokens_(batch_) {
    std::iota(pages_.begin(), pages_.end(), PageId{0});
    for (Pass& pass : passes_) pass = {model_.make_step(batch_), backend_->make_chosen_tokens(batch_)};
  }

  Model& model() noexcept { return model_; }

  // Every sequence's tokens [first, first + count).
  void read_prompt(uint32_t first, uint32_t count) {
    const uint32_t end = first + count, at_once = model_.limits().batch_tokens;
    for (uint32_t sequence = 0; sequence < batch_; ++sequence) {
      for (uint32_t at = first; at < end; at += at_once) {
        tokens_.clear();
        places_.clear();
        for (uint32_t position = at; position < std::min(at + at_once, end); ++position) {
          tokens_.push_back(position % model_.config().vocabulary);
          places_.push_back({sequence, position});
        }
        scored_ = {static_cast<uint32_t>(tokens_.size() - 1)};
        forward(passes_[0], nullptr);
      }
      choose(passes_[0]);
    }
    collect(passes_[0]);
  }

  void write_answer(uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      Pass &pass = passes_[i % 2], &before = passes_[(i + 1) % 2];
      if (i > 0 && !backend_->asynchronous()) collect(before);
      tokens_.clear();
      places_.clear();
      scored_.clear();
      for (uint32_t sequence = 0; sequence < batch_; ++sequence) {
        tokens_.push_back(i > 0 ? kChosenToken | sequence : sequence % model_.config().vocabulary);
        places_.push_back({sequence, first + i});
        scored_.push_back(sequence);
      }
      forward(pass, i > 0 ? before.chosen.get() : nullptr);
      choose(pass);
      if (i > 0 && backend_->asynchronous()) collect(before);
    }
    collect(passes_[(count - 1) % 2]);
  }

 private:
  struct Pass {
    std::unique_ptr<Step> step;
    std::unique_ptr<ChosenTokens> chosen;
  };

  void forward(Pass& pass, const ChosenTokens* chosen) {
    backend_->begin(*pass.step, {.tokens = tokens_,
                                 .places = places_,
                                 .pages = pages_,
                                 .pages_per_sequence = model_.pages_per_sequence(),
                                 .scored = scored_,
                                 .chosen = chosen});
    model_.forward(*pass.step, *cache_);
  }
  void choose(Pass& pass) {
    for (DrawSettings& draw : draws_) draw.uniform = std::uniform_real_distribution<double>(0, 1)(random_);
    backend_->choose(model_.logits(*pass.step, 0, scored_.size()), std::span(draws_).first(scored_.size()), *pass.chosen);
  }
  void collect(const Pass& pass) { backend_->tokens(*pass.chosen, std::span(chosen_tokens_).first(scored_.size())); }

  std::unique_ptr<Backend> backend_;
  Model model_;
  uint32_t batch_;
  std::unique_ptr<KeyValueCache> cache_;
  std::vector<PageId> pages_;  // [sequences][pages of a sequence], ascending
  Pass passes_[2];
  std::vector<DrawSettings> draws_;
  std::mt19937_64 random_{1};
  std::vector<uint32_t> tokens_, scored_, chosen_tokens_;
  std::vector<TokenPlace> places_;
};

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The depth that all ternary matrices have but for embedding and head, or 0.
int common_depth(const ModelFiles& files) {
  const std::string embedding = decoder_tensor(DecoderShape{}, DecoderPart::kEmbedding).name,
                    head = decoder_tensor(DecoderShape{}, DecoderPart::kHead).name;
  int depth = 0;
  for (const auto& [name, source] : files.weights) {
    const TernaryMatrix* const matrix = source.ternary();
    if (matrix == nullptr || name == embedding || name == head) continue;
    if (depth != 0 && depth != matrix->depth) return 0;
    depth = matrix->depth;
  }
  return depth;
}

void add_rates(BenchRow& row, const BenchTest& test) {
  std::vector<double> rates;
  for (const double seconds : row.seconds) rates.push_back(static_cast<double>(test.tokens) * row.batch / seconds);
  const auto count = static_cast<double>(rates.size());
  row.tokens_per_second = std::accumulate(rates.begin(), rates.end(), 0.0) / count;
  double squares = 0.0;
  for (const double rate : rates) squares += (rate - row.tokens_per_second) * (rate - row.tokens_per_second);
  row.stddev = rates.size() < 2 ? 0.0 : std::sqrt(squares / (count - 1.0));
  row.gigabytes_per_second =
      test.prompt ? 0.0 : row.tokens_per_second / row.batch * static_cast<double>(row.weight_bytes_per_token) * 1e-9;
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
    BenchRow row{.model = name,
                 .test = test.name(),
                 .device = benched.model().backend().description(),
                 .depth = depth,
                 .threads = pool.threads(),
                 .batch = options.batch,
                 .seconds = {},
                 .tokens_per_second = 0,
                 .stddev = 0,
                 .weight_bytes_per_token = benched.model().weight_bytes_per_token(),
                 .gigabytes_per_second = 0,
                 .draw = options.draw};
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
          {"batch", row.batch},
          {"device", row.device},
          {"tokens_per_second", row.tokens_per_second},
          {"stddev", row.stddev},
          {"weight_bytes_per_token", row.weight_bytes_per_token},
          {"gigabytes_per_second", row.test.starts_with("tg") ? Json(row.gigabytes_per_second) : Json(nullptr)},
          {"temperature", row.draw.temperature},
          {"top_k", row.draw.top_k},
          {"top_p", row.draw.top_p},
          {"min_p", row.draw.min_p},
          {"typical_p", row.draw.typical_p},
          {"seconds", row.seconds}};
}

}  // namespace tritllm
