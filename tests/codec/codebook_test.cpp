// The 27 scales of a matrix: the geometric progression of recipe uniform, and the clusters of recipe optimal against brute force.
#include "codec/codebook.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "core/half.h"

namespace tritllm::codec {
namespace {

TEST(GeometricCodebook, RunsFromTheSmallestToTheLargestInEqualRatios) {
  const std::pair<float, float> ranges[] = {{1.0f, 2.0f}, {0x1p-40f, 65504.0f}, {0.01f, 0.010001f}, {3e-7f, 0.25f}};
  for (const auto& [smallest, largest] : ranges) {
    const Codebook codebook = geometric_codebook(smallest, largest);
    EXPECT_EQ(codebook.front(), smallest);
    EXPECT_EQ(codebook.back(), largest);
    EXPECT_TRUE(std::is_sorted(codebook.begin(), codebook.end()));
    for (size_t j = 0; j < codebook.size(); ++j) {
      const double exact = smallest * std::pow(static_cast<double>(largest) / smallest, static_cast<double>(j) / 26.0);
      EXPECT_NEAR(codebook[j], exact, 2e-7 * exact) << j;
    }
  }
}

TEST(GeometricCodebook, OneScaleAndNone) {
  const Codebook one = geometric_codebook(0.75f, 0.75f);
  EXPECT_TRUE(std::all_of(one.begin(), one.end(), [](float scale) { return scale == 0.75f; }));
  EXPECT_EQ(geometric_codebook(0.0f, 0.0f), Codebook{});
}

TEST(NearestThresholds, LieHalfWayInTheLogDomain) {
  const Codebook codebook = geometric_codebook(1e-6f, 300.0f);
  const auto thresholds = nearest_thresholds(codebook);
  for (size_t j = 0; j < thresholds.size(); ++j) {
    EXPECT_NEAR(std::log(thresholds[j]), (std::log(codebook[j]) + std::log(codebook[j + 1])) / 2, 1e-6);
  }
}

double error_with(const std::vector<WeightedStep>& steps, const Codebook& codebook, int largest) {
  double error = 0;
  for (const WeightedStep& step : steps) {
    double least = std::numeric_limits<double>::infinity();
    for (const float scale : codebook) least = std::min(least, std::pow(step.step - static_cast<double>(scale) / largest, 2));
    error += step.weight * least;
  }
  return error;
}

// Cost of the steps [begin, end) around their mean, from the definition.
double cluster_cost(const std::vector<WeightedStep>& sorted, size_t begin, size_t end) {
  double weight = 0, sum = 0, cost = 0;
  for (size_t i = begin; i < end; ++i) {
    weight += sorted[i].weight;
    sum += sorted[i].weight * sorted[i].step;
  }
  for (size_t i = begin; i < end; ++i) cost += sorted[i].weight * std::pow(sorted[i].step - sum / weight, 2);
  return cost;
}

std::vector<WeightedStep> random_steps(size_t count, uint64_t seed, bool tied) {
  std::mt19937_64 engine(seed);
  std::lognormal_distribution<float> step(0.0f, 0.8f);
  std::uniform_real_distribution<double> weight(0.1, 4.0);
  std::vector<WeightedStep> steps(count);
  for (WeightedStep& item : steps) item = {tied ? std::ceil(step(engine) * 8) / 8 : step(engine), weight(engine)};
  return steps;
}

void sort_steps(std::vector<WeightedStep>& steps) {
  std::sort(steps.begin(), steps.end(), [](const WeightedStep& a, const WeightedStep& b) { return a.step < b.step; });
}

// Least cost over every way to cut `sorted` into 27 runs.
double least_of_all_partitions(const std::vector<WeightedStep>& sorted) {
  const size_t count = sorted.size();
  const std::function<double(size_t, size_t)> best = [&](size_t begin, size_t clusters) {
    if (clusters == 1) return cluster_cost(sorted, begin, count);
    double least = std::numeric_limits<double>::infinity();
    for (size_t end = begin + 1; end + clusters - 1 <= count; ++end) {
      least = std::min(least, cluster_cost(sorted, begin, end) + best(end, clusters - 1));
    }
    return least;
  };
  return best(0, 27);
}

TEST(ClusteredCodebook, IsTheBestOfAllPartitionsOfFewSteps) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    std::vector<WeightedStep> steps = random_steps(28 + seed % 3, seed, false), sorted = steps;
    sort_steps(sorted);
    const double least = least_of_all_partitions(sorted);
    const Codebook codebook = clustered_codebook(steps, 13, kLargestHalf);
    EXPECT_GT(least, 0.0);
    EXPECT_NEAR(error_with(sorted, codebook, 13), least, 1e-4 * least) << "seed " << seed;
  }
}

// The quadratic dynamic programme, which relies on no order of the best cuts.
double least_by_plain_programme(std::vector<WeightedStep> steps) {
  sort_steps(steps);
  const size_t count = steps.size();
  std::vector<double> weight(count + 1), first(count + 1), second(count + 1);
  for (size_t i = 0; i < count; ++i) {
    weight[i + 1] = weight[i] + steps[i].weight;
    first[i + 1] = first[i] + steps[i].weight * steps[i].step;
    second[i + 1] = second[i] + steps[i].weight * steps[i].step * steps[i].step;
  }
  const auto cost = [&](size_t i, size_t j) {
    const double sum = first[j] - first[i];
    return second[j] - second[i] - sum * sum / (weight[j] - weight[i]);
  };
  std::vector<double> before(count + 1, std::numeric_limits<double>::infinity());
  before[0] = 0;
  for (int cluster = 0; cluster < 27; ++cluster) {
    std::vector<double> after(count + 1, std::numeric_limits<double>::infinity());
    for (size_t j = 1; j <= count; ++j) {
      for (size_t i = 0; i < j; ++i) after[j] = std::min(after[j], before[i] + cost(i, j));
    }
    before = after;
  }
  return before[count];
}

TEST(ClusteredCodebook, IsTheBestOfAllPartitionsOfManySteps) {
  for (const size_t count : {27u, 60u, 511u, 513u, 1200u}) {
    for (const bool tied : {false, true}) {
      std::vector<WeightedStep> steps = random_steps(count, count, tied);
      const double least = least_by_plain_programme(steps), scale = cluster_cost(steps, 0, count);
      const Codebook codebook = clustered_codebook(steps, 4, kLargestHalf);
      EXPECT_TRUE(std::is_sorted(codebook.begin(), codebook.end()));
      EXPECT_NEAR(error_with(steps, codebook, 4), least, 1e-3 * least + 1e-12 * scale) << count << " steps, tied " << tied;
    }
  }
}

TEST(ClusteredCodebook, GatheringVeryManyStepsCostsNextToNothing) {
  std::vector<WeightedStep> steps = random_steps(3000, 8, false);
  const double least = least_by_plain_programme(steps);
  EXPECT_LT(error_with(steps, clustered_codebook(steps, 1, kLargestHalf), 1), 1.002 * least);
}

TEST(ClusteredCodebook, FewerStepsThanEntries) {
  std::vector<WeightedStep> none;
  EXPECT_EQ(clustered_codebook(none, 4, kLargestHalf), Codebook{});
  std::vector<WeightedStep> steps{{0.5f, 1}, {0.125f, 3}, {0.25f, 2}};
  const Codebook codebook = clustered_codebook(steps, 4, kLargestHalf);
  EXPECT_EQ(codebook[0], 0.5f);
  EXPECT_EQ(codebook[1], 1.0f);
  for (size_t entry = 2; entry < codebook.size(); ++entry) EXPECT_EQ(codebook[entry], 2.0f);
}

TEST(ClusteredCodebook, StaysWithinWhatFp16Holds) {
  std::vector<WeightedStep> steps;
  for (int i = 1; i <= 40; ++i) steps.push_back({static_cast<float>(i) * 1000.0f, 1.0});
  const Codebook codebook = clustered_codebook(steps, 4, kLargestHalf);
  EXPECT_LE(codebook.back(), kLargestHalf);
  EXPECT_EQ(codebook.back(), kLargestHalf);
  EXPECT_TRUE(std::is_sorted(codebook.begin(), codebook.end()));
}

}  // namespace
}  // namespace tritllm::codec
