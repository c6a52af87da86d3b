// Owns the cases of sampling/sampler.h: exact ones against the chain's definitions, statistical ones with fixed seeds.
#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include "allocation_count.h"
#include "core/error.h"
#include "sampler_reference.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A sampler with the tokens that it has chosen, as a sequence keeps them.
class Chooser {
 public:
  Chooser(SamplerOptions options, size_t vocabulary, std::vector<uint32_t> history = {})
      : sampler_(std::move(options), vocabulary), history_(std::move(history)) {}

  // The history stays as it is.
  uint32_t sample(const std::vector<float>& logits) { return sampler_.sample(logits, history_, room_); }
  void accept(uint32_t token) { history_.push_back(token); }

 private:
  Sampler sampler_;
  SamplerRoom room_;
  std::vector<uint32_t> history_;
};

uint32_t greedy(const std::vector<float>& logits) {
  return Chooser(SamplerOptions{.temperature = 0}, logits.size()).sample(logits);
}

TEST(Sampler, GreedyTakesTheLargestAndOfEqualOnesTheLowest) {
  EXPECT_EQ(greedy({1, 3, 2}), 1u);
  EXPECT_EQ(greedy({1, 3, 3, 2, 3}), 1u);
  EXPECT_EQ(greedy({-7, -7, -7}), 0u);
  EXPECT_EQ(greedy({-kInfinity, -3e38f, -kInfinity}), 1u);
  EXPECT_EQ(greedy({1, std::nextafter(1.0f, 2.0f), 1}), 1u);
}

TEST(Sampler, GreedyIgnoresTheFilters) {
  std::vector<float> row(61, std::log(0.01f));
  row[7] = std::log(0.4f);
  // typical_p alone would drop token 7 (see candidates_test.cpp).
  Chooser sampler(SamplerOptions{.temperature = 0, .top_k = 3, .top_p = 0.1f, .min_p = 1, .typical_p = 0.3f}, row.size());
  EXPECT_EQ(sampler.sample(row), 7u);
}

SamplerOptions random_penalties(std::mt19937_64& generator, size_t vocabulary) {
  const auto pick = [&](std::initializer_list<float> values) { return values.begin()[generator() % values.size()]; };
  SamplerOptions options;
  options.repeat_penalty = pick({1, 1.1f, 2, 0.5f});
  options.presence_penalty = pick({0, 0.5f, 2, -1});
  options.frequency_penalty = pick({0, 0.25f, 1, -0.5f});
  options.penalty_window = static_cast<uint32_t>(pick({0, 1, 4, 64}));
  if (generator() % 3 == 0) options.penalty_window = kWholeContext;
  for (uint32_t token = 0; token < vocabulary; token += 3) {
    if (generator() % 2 == 0) options.logit_bias.push_back({token, pick({-kInfinity, -2, 1, 3})});
  }
  return options;
}

TEST(Sampler, BiasAndPenaltiesFollowTheirDefinition) {
  std::mt19937_64 generator(21);
  for (int round = 0; round < 400; ++round) {
    const size_t vocabulary = 2 + generator() % 20;
    SamplerOptions options = random_penalties(generator, vocabulary);
    options.temperature = 0;
    Chooser sampler(options, vocabulary);
    std::vector<uint32_t> history;
    for (int step = 0; step < 40; ++step) {
      const std::vector<float> logits = reference::gaussian_row(generator, vocabulary, 2);
      const std::vector<reference::Entry> expected = reference::by_probability(reference::adjusted(options, logits, history));
      ASSERT_FALSE(expected.empty());
      ASSERT_EQ(sampler.sample(logits), expected[0].token) << "round " << round << ", step " << step;
      history.push_back(static_cast<uint32_t>(generator() % vocabulary));
      sampler.accept(history.back());
    }
  }
}

// Pearson's statistic of `draws` draws, with the tokens of few expected draws in one cell; and the value that chance exceeds
// once in a million (Wilson and Hilferty's approximation; 4.753 is that quantile of a Gaussian).
struct Fit {
  double statistic = 0;
  double limit = 0;
};

Fit fit(const std::vector<size_t>& counts, const std::vector<double>& expected, size_t draws) {
  Fit result;
  double cells = 0, rare_expected = 0, rare_count = 0;
  const auto add_cell = [&](double count, double mean) {
    result.statistic += (count - mean) * (count - mean) / mean;
    ++cells;
  };
  for (size_t token = 0; token < counts.size(); ++token) {
    const double mean = expected[token] * static_cast<double>(draws);
    if (mean >= 10) {
      add_cell(static_cast<double>(counts[token]), mean);
    } else {
      rare_expected += mean;
      rare_count += static_cast<double>(counts[token]);
    }
  }
  if (rare_expected >= 5) add_cell(rare_count, rare_expected);
  const double freedom = std::max(1.0, cells - 1), spread = 2 / (9 * freedom);
  result.limit = freedom * std::pow(1 - spread + 4.753 * std::sqrt(spread), 3);
  return result;
}

struct Case {
  const char* name;
  SamplerOptions options;
};

const Case kCases[] = {
    {"plain", {}},
    {"cool", {.temperature = 0.4f}},
    {"hot", {.temperature = 3}},
    {"top_k", {.top_k = 7}},
    {"top_p", {.top_p = 0.8f}},
    {"min_p", {.min_p = 0.1f}},
    {"typical_p", {.typical_p = 0.7f}},
    {"min_p before temperature", {.temperature = 5, .min_p = 0.2f}},
    {"top_p after top_k", {.top_k = 5, .top_p = 0.7f}},
    {"typical_p before top_p", {.top_p = 0.6f, .typical_p = 0.8f}},
    {"all", {.temperature = 1.5f, .top_k = 30, .top_p = 0.9f, .min_p = 0.02f, .typical_p = 0.95f}},
    {"penalties", {.repeat_penalty = 1.5f, .presence_penalty = 0.5f, .frequency_penalty = 0.5f, .penalty_window = 3}},
    {"bias", {.logit_bias = {{0, 3}, {1, -kInfinity}, {2, -1}}}},
};

TEST(Sampler, DrawsTheDistributionOfTheChain) {
  constexpr size_t kDraws = 40000;
  std::mt19937_64 generator(22);
  const std::vector<uint32_t> history = {5, 1, 2, 2, 3};
  for (const Case& item : kCases) {
    const std::vector<float> logits = reference::gaussian_row(generator, 50, 2);
    SamplerOptions options = item.options;
    options.seed = 23;
    Chooser sampler(options, logits.size(), history);
    const std::vector<double> expected = reference::distribution(options, logits, history);
    std::vector<size_t> counts(logits.size());
    for (size_t i = 0; i < kDraws; ++i) ++counts[sampler.sample(logits)];
    for (size_t token = 0; token < counts.size(); ++token) {
      EXPECT_TRUE(expected[token] > 0 || counts[token] == 0) << item.name << ": token " << token << " cannot be drawn";
    }
    const Fit result = fit(counts, expected, kDraws);
    EXPECT_LT(result.statistic, result.limit) << item.name;
  }
}

TEST(Sampler, EqualLogitsAreDrawnEqually) {
  constexpr size_t kDraws = 40000;
  const std::vector<float> logits(20, -4.5f);
  Chooser sampler(SamplerOptions{.seed = 3}, logits.size());
  std::vector<size_t> counts(logits.size());
  for (size_t i = 0; i < kDraws; ++i) ++counts[sampler.sample(logits)];
  const Fit result = fit(counts, std::vector<double>(20, 0.05), kDraws);
  EXPECT_LT(result.statistic, result.limit);
}

TEST(Sampler, TheDrawIsTheGeneratorsUpperBitsInTokenOrder) {
  constexpr uint64_t kSeed = 0x1234'5678'9abc'def0;
  std::mt19937_64 generator(kSeed);
  Chooser sampler(SamplerOptions{.seed = kSeed}, 4);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(sampler.sample(std::vector<float>(4, 0.0f)), generator() >> 62);
}

// Only tokens that can be among the largest become candidates: the draw is that from all of them, equal logits included.
TEST(Sampler, TopKOfALargeVocabularyIsThatOfAllTokens) {
  std::mt19937_64 generator(31);
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::vector<float> logits = reference::gaussian_row(generator, 3000 + seed % 64, 3);
    for (float& logit : logits) logit = generator() % 50 == 0 ? -kInfinity : std::round(4 * logit) / 4;
    const auto top_k = static_cast<uint32_t>(1 + generator() % 60);
    Candidates candidates;
    for (uint32_t token = 0; token < logits.size(); ++token) {
      if (!std::isinf(logits[token])) candidates.push_back({token, logits[token], 0});
    }
    keep_top_k(candidates, top_k);
    double remaining = static_cast<double>(std::mt19937_64(seed)() >> 11) * 0x1p-53 * weigh(candidates, 0.7f);
    const auto drawn = std::find_if(candidates.begin(), candidates.end(),
                                    [&](const Candidate& candidate) { return (remaining -= candidate.weight) < 0; });
    Chooser sampler(SamplerOptions{.temperature = 0.7f, .top_k = top_k, .seed = seed}, logits.size());
    ASSERT_NE(drawn, candidates.end());
    ASSERT_EQ(sampler.sample(logits), drawn->token) << "seed " << seed;
  }
}

// These tokens must never change: a seed that a user noted down gives the text that it gave.
TEST(Sampler, ASeedIsAPromise) {
  std::mt19937_64 generator(31);
  const std::vector<float> logits = reference::gaussian_row(generator, 1000, 2);
  Chooser sampler(SamplerOptions{.temperature = 0.8f, .top_k = 100, .top_p = 0.95f, .min_p = 0.01f, .seed = 42}, logits.size());
  std::vector<uint32_t> drawn;
  for (int i = 0; i < 12; ++i) drawn.push_back(sampler.sample(logits));
  EXPECT_EQ(drawn, (std::vector<uint32_t>{952, 942, 952, 201, 884, 156, 822, 217, 921, 217, 156, 529}));
}

TEST(Sampler, SeedsDecideAlone) {
  std::mt19937_64 generator(32);
  const std::vector<float> logits = reference::gaussian_row(generator, 200, 1);
  const auto draw_with = [&](uint64_t seed) {
    Chooser sampler(SamplerOptions{.seed = seed}, logits.size());
    std::vector<uint32_t> drawn;
    for (int i = 0; i < 50; ++i) drawn.push_back(sampler.sample(logits));
    return drawn;
  };
  EXPECT_EQ(draw_with(1), draw_with(1));
  EXPECT_NE(draw_with(1), draw_with(2));
  EXPECT_NE(draw_with(1), draw_with(uint64_t{1} << 63));
}

TEST(Sampler, ImpossibleTokensAreNeverDrawn) {
  std::vector<float> logits(10, -kInfinity);
  logits[4] = 0;
  logits[8] = -1;
  for (const Case& item : kCases) {
    SamplerOptions options = item.options;
    options.logit_bias.clear();
    Chooser sampler(options, logits.size());
    for (int i = 0; i < 200; ++i) {
      const uint32_t token = sampler.sample(logits);
      EXPECT_TRUE(token == 4 || token == 8) << item.name << " " << token;
    }
  }
}

TEST(Sampler, ExtremeLogitsAndTemperaturesStayFinite) {
  const std::vector<float> logits = {3e38f, -3e38f, 1e-40f};
  for (const float temperature : {1e-45f, 1e-20f, 1.0f, 100.0f}) {
    Chooser sampler(SamplerOptions{.temperature = temperature, .top_p = 0.99f, .typical_p = 0.99f}, logits.size());
    EXPECT_EQ(sampler.sample(logits), 0u) << temperature;
  }
}

TEST(Sampler, RefusesRowsWithoutMeaning) {
  for (const float temperature : {0.0f, 1.0f}) {
    Chooser sampler(SamplerOptions{.temperature = temperature}, 3);
    expect_error(ErrorCode::kBadInput, "logits: expected a number for token 1, found nan", [&] {
      sampler.sample(std::vector<float>{1, std::nanf(""), 2});
    });
    expect_error(ErrorCode::kBadInput, "logits: expected a number for token 2, found inf", [&] {
      sampler.sample(std::vector<float>{1, 0, kInfinity});
    });
    expect_error(ErrorCode::kBadInput, "every token is at minus infinity",
                 [&] { sampler.sample(std::vector<float>(3, -kInfinity)); });
    expect_error(ErrorCode::kBadInput, "logits: expected 3 values, found 2", [&] { sampler.sample(std::vector<float>(2)); });
    EXPECT_LT(sampler.sample(std::vector<float>{1, 2, 3}), 3u) << "a refused row leaves the sampler usable";
  }
  Chooser banned(SamplerOptions{.logit_bias = {{0, -kInfinity}, {1, -kInfinity}}}, 2);
  expect_error(ErrorCode::kBadInput, "ban fewer tokens", [&] { banned.sample(std::vector<float>{1, 2}); });
}

TEST(Sampler, RefusesUnknownTokensAndBadOptions) {
  Chooser sampler(SamplerOptions{.presence_penalty = 1}, 3, {1, 3, 2});
  const std::vector<float> row{1, 2, 3};
  expect_error(ErrorCode::kBadInput, "token: expected one below the vocabulary's size of 3, found 3", [&] { sampler.sample(row); });
  expect_error(ErrorCode::kUsage, "temperature", [] { Sampler(SamplerOptions{.temperature = -1}, 3); });
}

TEST(Sampler, SamplersShareARoom) {
  std::mt19937_64 generator(42);
  std::vector<std::vector<float>> rows;
  for (const size_t size : {300u, 20u, 4000u}) rows.push_back(reference::gaussian_row(generator, size, 1));
  const SamplerOptions options{.top_k = 15, .top_p = 0.9f, .frequency_penalty = 0.5f, .logit_bias = {{3, -kInfinity}}, .seed = 7};
  SamplerRoom shared;
  std::vector<Sampler> samplers;
  std::vector<std::vector<uint32_t>> together(rows.size());
  for (const std::vector<float>& row : rows) samplers.emplace_back(options, row.size());
  for (int step = 0; step < 50; ++step) {
    for (size_t i = 0; i < rows.size(); ++i) together[i].push_back(samplers[i].sample(rows[i], together[i], shared));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    Sampler sampler(options, rows[i].size());
    SamplerRoom own;
    std::vector<uint32_t> alone;
    for (int step = 0; step < 50; ++step) alone.push_back(sampler.sample(rows[i], alone, own));
    EXPECT_EQ(alone, together[i]);
  }
}

TEST(Sampler, AWaitingSequenceCostsLittle) { EXPECT_LT(sizeof(Sampler), 4096u) << "buffers of a vocabulary belong to the room"; }

TEST(Sampler, AllocatesNothingOnceItHasRun) {
  std::mt19937_64 generator(41);
  const std::vector<float> logits = reference::gaussian_row(generator, 3000, 1);
  SamplerRoom room;
  for (const Case& item : kCases) {
    Sampler sampler(item.options, logits.size());
    std::vector<uint32_t> history;
    history.reserve(100);
    for (int i = 0; i < 70; ++i) history.push_back(sampler.sample(logits, history, room));
    const size_t before = allocation_count();
    for (int i = 0; i < 20; ++i) history.push_back(sampler.sample(logits, history, room));
    EXPECT_EQ(allocation_count(), before) << item.name;
  }
}

}  // namespace
}  // namespace tritllm
