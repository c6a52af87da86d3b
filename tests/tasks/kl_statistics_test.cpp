// The figures of `tritllm eval` against their definitions, and their standard errors against the spread of repeated experiments.
#include "tasks/kl_statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "support/expect_error.h"

namespace tritllm {
namespace {

using Row = std::vector<float>;

std::vector<long double> softmax(const Row& logits) {
  long double largest = -INFINITY, sum = 0;
  for (const float logit : logits) largest = std::max<long double>(largest, logit);
  std::vector<long double> weights;
  for (const float logit : logits) {
    weights.push_back(std::exp(static_cast<long double>(logit) - largest));
    sum += weights.back();
  }
  for (long double& weight : weights) weight /= sum;
  return weights;
}

double divergence_by_definition(const Row& own, const Row& reference) {
  const auto q = softmax(own), p = softmax(reference);
  long double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] > 0) sum += p[i] * std::log(p[i] / q[i]);
  }
  return static_cast<double>(sum);
}

Row random_row(size_t count, float spread, std::mt19937_64& random) {
  std::normal_distribution<float> normal(0.0f, spread);
  Row row(count);
  for (float& logit : row) logit = normal(random);
  return row;
}

TEST(CompareRows, IsWhatTheDefinitionsSay) {
  std::mt19937_64 random(1);
  for (const size_t vocabulary : {2u, 7u, 1000u, 50000u}) {
    for (const float spread : {0.1f, 3.0f, 15.0f}) {
      for (const float noise : {1.0f, 0.05f}) {
        const Row reference = random_row(vocabulary, spread, random);
        Row own = random_row(vocabulary, noise * spread, random);
        for (size_t i = 0; i < vocabulary; ++i) own[i] += reference[i];
        const auto target = static_cast<uint32_t>(random() % vocabulary);
        const RowComparison row = compare_rows(own, reference, target);
        const double expected = divergence_by_definition(own, reference);
        EXPECT_NEAR(row.kl_divergence, expected, expected * 1e-4 + 1e-8) << vocabulary << ", " << spread << ", " << noise;
        EXPECT_NEAR(row.negative_log_likelihood, -static_cast<double>(std::log(softmax(own)[target])),
                    1e-6 + 1e-6 * double{spread});
        EXPECT_NEAR(row.reference_negative_log_likelihood, -static_cast<double>(std::log(softmax(reference)[target])),
                    1e-6 + 1e-6 * double{spread});
        EXPECT_EQ(row.negative_log_likelihood, negative_log_likelihood(own, target));
        EXPECT_EQ(row.same_top, std::max_element(own.begin(), own.end()) - own.begin() ==
                                    std::max_element(reference.begin(), reference.end()) - reference.begin());
      }
    }
  }
}

TEST(CompareRows, ARowAgainstItselfOrItsShiftDivergesByNothing) {
  std::mt19937_64 random(2);
  for (int trial = 0; trial < 50; ++trial) {
    const Row row = random_row(3000, 8.0f, random);
    Row shifted = row;
    for (float& logit : shifted) logit += 16.0f;
    EXPECT_NEAR(compare_rows(row, row, 5).kl_divergence, 0.0, 1e-12);
    EXPECT_GE(compare_rows(row, row, 5).kl_divergence, 0.0);
    EXPECT_NEAR(compare_rows(shifted, row, 5).kl_divergence, 0.0, 1e-6);
    EXPECT_TRUE(compare_rows(row, row, 5).same_top);
  }
}

TEST(CompareRows, SmallDivergencesKeepTheirDigits) {
  // For two tokens of logits 0 and ±ε: KL is nearly ε²/8·(1 − tanh²) by its second derivative.
  for (const double difference : {1e-2, 1e-3}) {
    const Row reference{0.0f, 0.0f}, own{static_cast<float>(difference), 0.0f};
    EXPECT_NEAR(compare_rows(own, reference, 0).kl_divergence / (difference * difference / 8.0), 1.0, 1e-3);
  }
}

TEST(CompareRows, TiesGoToTheLowestToken) {
  EXPECT_TRUE(compare_rows(Row{1, 2, 2}, Row{0, 5, 3}, 0).same_top);
  EXPECT_FALSE(compare_rows(Row{1, 2, 2}, Row{0, 3, 5}, 0).same_top);
}

TEST(CompareRows, ForbiddenTokens) {
  const float none = -std::numeric_limits<float>::infinity();
  EXPECT_NEAR(compare_rows(Row{0, 1, none}, Row{0, 1, none}, 0).kl_divergence, 0.0, 1e-7);
  EXPECT_EQ(compare_rows(Row{0, none, 1}, Row{0, 1, 1}, 0).kl_divergence, INFINITY);
  EXPECT_TRUE(std::isfinite(compare_rows(Row{0, 1, 1}, Row{0, none, 1}, 0).kl_divergence));
  EXPECT_EQ(negative_log_likelihood(Row{0, none}, 1), INFINITY);
  for (const float bad : {NAN, std::numeric_limits<float>::infinity()}) {
    EXPECT_THROW(compare_rows(Row{0, bad}, Row{0, 1}, 0), Error);
    EXPECT_THROW(compare_rows(Row{0, 1}, Row{0, bad}, 0), Error);
    EXPECT_THROW(negative_log_likelihood(Row{0, bad}, 0), Error);
  }
}

// Estimates

TEST(Estimates, OfKnownValues) {
  const std::vector<double> values{1, 2, 3, 4, 10};
  EXPECT_DOUBLE_EQ(mean_estimate(values).value, 4.0);
  EXPECT_DOUBLE_EQ(mean_estimate(values).standard_error, std::sqrt((9.0 + 4 + 1 + 0 + 36) / 4 / 5));
  EXPECT_DOUBLE_EQ(quantile_estimate(values, 0.5).value, 3.0);
  EXPECT_DOUBLE_EQ(quantile_estimate(values, 0.25).value, 2.0);
  EXPECT_DOUBLE_EQ(quantile_estimate(values, 0.0).value, 1.0);
  EXPECT_DOUBLE_EQ(quantile_estimate(values, 1.0).value, 10.0);
  EXPECT_DOUBLE_EQ(quantile_estimate(values, 0.875).value, 7.0) << "halfway between 4 and 10";
  const std::vector<double> one{7};
  EXPECT_EQ(mean_estimate(one).value, 7.0);
  EXPECT_EQ(mean_estimate(one).standard_error, 0.0);
  EXPECT_EQ(quantile_estimate(one, 0.99).value, 7.0);
  EXPECT_EQ(quantile_estimate(one, 0.99).standard_error, 0.0);
  EXPECT_DOUBLE_EQ(exponential_estimate({2.0, 0.1}).value, std::exp(2.0));
  EXPECT_DOUBLE_EQ(exponential_estimate({2.0, 0.1}).standard_error, 0.1 * std::exp(2.0));
}

// The mean of the errors that an estimator claims, and the spread that its values really have, over many samples.
struct Experiment {
  double claimed, real;
};

Experiment repeat(const std::function<Estimate(const std::vector<double>& sorted)>& estimator) {
  std::mt19937_64 random(3);
  std::lognormal_distribution<double> distribution(-3.0, 1.0);  // divergences are skewed like this
  std::vector<double> values;
  double claimed = 0.0;
  constexpr int kTrials = 600;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> sample(2000);
    for (double& value : sample) value = distribution(random);
    std::sort(sample.begin(), sample.end());
    const Estimate estimate = estimator(sample);
    values.push_back(estimate.value);
    claimed += estimate.standard_error / kTrials;
  }
  double mean = 0.0, squares = 0.0;
  for (const double value : values) mean += value / kTrials;
  for (const double value : values) squares += (value - mean) * (value - mean) / (kTrials - 1);
  return {claimed, std::sqrt(squares)};
}

TEST(Estimates, ErrorsAreTheSpreadOfRepetitions) {
  const auto check = [](const char* name, const Experiment& experiment, double tolerance) {
    EXPECT_NEAR(experiment.claimed / experiment.real, 1.0, tolerance) << name;
  };
  check("mean", repeat([](const auto& sample) { return mean_estimate(sample); }), 0.1);
  check("median", repeat([](const auto& sample) { return quantile_estimate(sample, 0.5); }), 0.1);
  check("99 %", repeat([](const auto& sample) { return quantile_estimate(sample, 0.99); }), 0.15);
  check("exponential", repeat([](const auto& sample) { return exponential_estimate(mean_estimate(sample)); }), 0.1);
}

}  // namespace
}  // namespace tritllm
