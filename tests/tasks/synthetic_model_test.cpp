// Models made in memory: of the shape, depth and vocabulary that were asked for, the same each time, and able to run. And the names
// of a benchmark's tests.
#include "tasks/synthetic_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "codec/trits.h"
#include "support/expect_error.h"
#include "tasks/bench.h"

namespace tritllm {
namespace {

constexpr uint32_t kVocabulary = 100;

ModelFiles make(int depth, unsigned threads = 2) {
  ThreadPool pool(threads);
  return make_synthetic_model({.shape = "smollm2-135m", .depth = depth, .vocabulary = kVocabulary}, pool);
}

std::vector<uint8_t> bytes_of(const WeightSource& source) {
  std::vector<uint8_t> bytes;
  if (const SourceTensor* const tensor = source.dense()) {
    const auto* const data = reinterpret_cast<const uint8_t*>(tensor->bytes.data());
    bytes.assign(data, data + tensor->bytes.size());
  } else {
    const TernaryMatrix& matrix = *source.ternary();
    bytes.assign(matrix.trits.begin(), matrix.trits.end());
    bytes.insert(bytes.end(), matrix.scales.begin(), matrix.scales.end());
  }
  return bytes;
}

TEST(SyntheticModel, HasTheShapeAndDepth) {
  for (const int depth : {1, 4}) {
    const ModelFiles files = make(depth);
    EXPECT_EQ(files.weights.size(), 3u + 30 * 9);
    const TernaryMatrix& matrix = *files.weights.at("model.layers.29.self_attn.k_proj.weight").ternary();
    EXPECT_EQ(matrix.depth, depth);
    EXPECT_EQ(matrix.shape.rows, 192u);
    EXPECT_EQ(matrix.shape.columns, 576u);
    EXPECT_EQ(matrix.trits.size(), matrix.shape.trit_bytes(depth));
    EXPECT_FALSE(codec::find_invalid_trit_byte(matrix.trits));
    EXPECT_FALSE(codec::find_invalid_trit_byte(matrix.scales));
    EXPECT_TRUE(std::is_sorted(matrix.codebooks.at(0).begin(), matrix.codebooks.at(0).end()));
    // Every value of five trits, equally often: within five standard deviations.
    std::array<size_t, 243> counts{};
    for (const uint8_t byte : matrix.trits) ++counts[codec::digits_from_byte(byte)];
    const double expected = static_cast<double>(matrix.trits.size()) / 243.0;
    for (const size_t count : counts) EXPECT_NEAR(static_cast<double>(count), expected, 5.0 * std::sqrt(expected));
    EXPECT_EQ(files.weights.at("model.embed_tokens.weight").dense()->shape, (std::vector<uint64_t>{kVocabulary, 576}));
  }
  EXPECT_NE(make(0).weights.at("model.layers.0.mlp.up_proj.weight").dense(), nullptr);
}

TEST(SyntheticModel, HeadHasADepthOfItsOwn) {
  ThreadPool pool(2);
  EXPECT_NE(make(2).weights.at("lm_head.weight").dense(), nullptr);
  const ModelFiles files =
      make_synthetic_model({.shape = "smollm2-135m", .depth = 2, .vocabulary = kVocabulary, .head_depth = 4}, pool);
  EXPECT_EQ(files.weights.at("lm_head.weight").ternary()->depth, 4);
  EXPECT_EQ(files.weights.at("model.layers.0.mlp.up_proj.weight").ternary()->depth, 2);
}

TEST(SyntheticModel, TheSameBytesEachTimeForAnyNumberOfThreads) {
  const ModelFiles first = make(2, 1), second = make(2, 3);
  ASSERT_EQ(first.weights.size(), second.weights.size());
  for (const auto& [name, source] : first.weights) EXPECT_TRUE(bytes_of(source) == bytes_of(second.weights.at(name))) << name;
  EXPECT_FALSE(bytes_of(first.weights.at("model.layers.0.mlp.up_proj.weight")) ==
               bytes_of(first.weights.at("model.layers.1.mlp.up_proj.weight")));
  EXPECT_EQ(first.config, second.config);
}

TEST(SyntheticModel, UnknownShapesAreRefusedWithTheChoices) {
  ThreadPool pool(1);
  expect_error(ErrorCode::kUsage, "'gpt-5'", [&] { make_synthetic_model({.shape = "gpt-5"}, pool); });
  expect_error(ErrorCode::kUsage, "llama-3.1-8b", [&] { make_synthetic_model({.shape = ""}, pool); });
}

TEST(Bench, RunsASyntheticModelAndCountsRight) {
  BenchOptions options;
  options.synthetic = SyntheticModel{.shape = "smollm2-135m", .depth = 3, .vocabulary = kVocabulary};
  options.tests = parse_bench_tests("pp20,tg3");
  options.repetitions = 3;
  options.context_before = 4;
  options.threads = 2;
  options.batch_tokens = 8;
  std::vector<std::string> seen;
  const std::vector<BenchRow> rows = run_bench(options, [&](const BenchRow& row) { seen.push_back(row.test); });
  EXPECT_EQ(seen, (std::vector<std::string>{"pp20", "tg3"}));
  ASSERT_EQ(rows.size(), 2u);
  const uint64_t matrices = uint64_t{30} * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 576 * 1536);
  for (const BenchRow& row : rows) {
    const double tokens = row.test == "pp20" ? 20 : 3;
    EXPECT_EQ(row.model, "smollm2-135m");
    EXPECT_EQ(row.depth, 3);
    EXPECT_EQ(row.threads, 2u);
    ASSERT_EQ(row.seconds.size(), 3u);
    double mean = 0.0, squares = 0.0;
    for (const double seconds : row.seconds) mean += tokens / seconds / 3.0;
    for (const double seconds : row.seconds) squares += std::pow(tokens / seconds - mean, 2) / 2.0;
    EXPECT_NEAR(row.tokens_per_second / mean, 1.0, 1e-9);
    EXPECT_NEAR(row.stddev, std::sqrt(squares), 1e-9 * mean);
    EXPECT_EQ(row.weight_bytes_per_token, matrices * 340 / 512 + kVocabulary * 576 * 2)
        << "340 bytes for a block of 512 weights, and the FP16 head";
    const double gigabytes = row.test == "tg3" ? mean * static_cast<double>(row.weight_bytes_per_token) * 1e-9 : 0.0;
    EXPECT_NEAR(row.gigabytes_per_second, gigabytes, 1e-9 * gigabytes);
    EXPECT_EQ(to_json(row)["gigabytes_per_second"].is_null(), row.test == "pp20");
  }
}

std::string names_of(std::string_view text) {
  std::string names;
  for (const BenchTest& test : parse_bench_tests(text)) names += (test.prompt ? "prompt " : "answer ") + test.name() + ";";
  return names;
}

TEST(BenchTests, Names) {
  EXPECT_EQ(names_of("pp512,tg128"), "prompt pp512;answer tg128;");
  EXPECT_EQ(names_of("tg1"), "answer tg1;");
  EXPECT_EQ(names_of("pp1048576,pp1,pp1"), "prompt pp1048576;prompt pp1;prompt pp1;");
}

TEST(BenchTests, NamesThatAreNone) {
  for (const char* const bad :
       {"",    ",",   "pp",   "tg",   "p",    "pp0",      "pp-1", "pp+1", "pp1.5",   "pp1048577", "pp99999999999999999999",
        "xx5", "PP5", "pp5x", " pp5", "pp5 ", "pp5,,tg5", "pp5,", ",pp5", "pp5;tg5", "5"}) {
    expect_error(ErrorCode::kUsage, "options.tests", [&] { parse_bench_tests(bad); });
  }
}

}  // namespace
}  // namespace tritllm
