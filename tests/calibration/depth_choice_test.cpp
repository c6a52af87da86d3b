// Owns the tests of the choice of depths: against all choices that there are, and at the ends of its range.
#include "calibration/depth_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "core/error.h"

namespace tritllm {
namespace {

std::vector<DepthItem> make_items(size_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> gauss;
  std::vector<DepthItem> items(count);
  for (DepthItem& item : items) {
    item.tensors = {"matrix"};
    item.weights = 1600 * (1 + engine() % 4);
    double loss = std::exp(2.0 * gauss(engine));
    for (double& at : item.losses) {
      at = loss;
      loss *= std::exp(-std::fabs(1.5 + 1.5 * gauss(engine)));  // often two depths together are worth more than the first of them
    }
  }
  return items;
}

double loss_of(const std::vector<DepthItem>& items, const std::vector<int>& depths) {
  double loss = 0;
  for (size_t i = 0; i < items.size(); ++i) loss += items[i].losses[static_cast<size_t>(depths[i] - 1)];
  return loss;
}

double bits_of(const std::vector<DepthItem>& items, const std::vector<int>& depths) {
  double bits = 0, weights = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    bits += stored_bits(depths[i]) * static_cast<double>(items[i].weights);
    weights += static_cast<double>(items[i].weights);
  }
  return bits / weights;
}

TEST(DepthChoice, IsNearTheBestOfAll) {
  constexpr size_t kItems = 6;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<DepthItem> items = make_items(kItems, seed);
    double most = 0, weights = 0;
    for (const DepthItem& item : items) {
      most = std::max(most, static_cast<double>(item.weights));
      weights += static_cast<double>(item.weights);
    }
    const double largest_step = (stored_bits(4) - stored_bits(1)) * most / weights;
    for (const double bits : {2.5, 3.5, 4.0, 4.7, 6.0}) {
      const std::vector<int> chosen = choose_depths(items, bits);
      EXPECT_LE(bits_of(items, chosen), bits + 1e-9);
      double best = INFINITY;
      std::vector<int> depths(kItems, 1);
      for (size_t code = 0; code < 4096; ++code) {
        for (size_t i = 0; i < kItems; ++i) depths[i] = 1 + static_cast<int>(code >> (2 * i) & 3);
        // What a greedy choice may miss is one step that does not fit.
        if (bits_of(items, depths) <= bits - largest_step) best = std::min(best, loss_of(items, depths));
      }
      EXPECT_LE(loss_of(items, chosen), best * (1 + 1e-9)) << seed << ' ' << bits;
    }
  }
}

TEST(DepthChoice, TakesAllAndNothing) {
  const std::vector<DepthItem> items = make_items(5, 1);
  EXPECT_EQ(choose_depths(items, stored_bits(4)), std::vector<int>(5, 4));
  EXPECT_EQ(choose_depths(items, stored_bits(1)), std::vector<int>(5, 1));
  EXPECT_THROW(choose_depths(items, 1.8), Error);
}

TEST(DepthChoice, SpendsNothingThatDoesNotHelp) {
  std::vector<DepthItem> items = make_items(3, 2);
  items[1].losses = {1.0, 1.0, 1.0, 1.0};
  EXPECT_EQ(choose_depths(items, stored_bits(4))[1], 1);
}

}  // namespace
}  // namespace tritllm
