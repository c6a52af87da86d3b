// Attention of prompts on a GPU, many queries of a sequence at a time, against the same rows one by one, which the conformance
// suite holds to formulas. Batches mix prompts of several sequences with single rows. Skipped, with the reason, where there is no
// card.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "backend/cuda/devices.h"
#include "backend/device_under_test.h"

namespace tritllm {
namespace {

struct Case {
  uint32_t head_width, heads, shared;
  uint32_t window;
  float softcap;
  CacheType type = CacheType::kFloat16;
  uint32_t before = 200;  // positions of sequence 2; more than 1,024 are divided among other blocks
};

class CudaAttention : public testing::TestWithParam<Case> {};

TEST_P(CudaAttention, PromptsGiveWhatSingleRowsGive) {
  if (find_cuda_devices().devices.empty()) GTEST_SKIP() << find_cuda_devices().problem;
  const Case& test = GetParam();
  const TestDevice device({.name = "cuda"});
  const uint32_t page = device->page_positions(), pages_each = test.before / page + 2;
  constexpr uint32_t kSequences = 3;
  const auto rotary = device->make_rotary_table({{1.0f, 0.1f, 0.01f}, 1.0f}, pages_each * page);
  const auto cache = device->make_cache({2, test.shared, test.head_width, kSequences * pages_each, test.type});
  TestStep inputs;
  inputs.pages_per_sequence = pages_each;
  inputs.pages.clear();
  for (uint32_t i = 0; i < kSequences * pages_each; ++i) inputs.pages.push_back((i * 7) % (kSequences * pages_each));
  // What is in the cache before: 90 positions of sequence 1, and sequence 2's.
  const auto store = [&](const std::vector<TokenPlace>& places, uint64_t seed) {
    TestStep part = inputs;
    part.places = places;
    const size_t count = places.size();
    const auto q = device.rows(test.heads * test.head_width, random_values(count * test.heads * test.head_width, seed)),
               k = device.rows(test.shared * test.head_width, random_values(count * test.shared * test.head_width, seed + 1)),
               v = device.rows(test.shared * test.head_width, random_values(count * test.shared * test.head_width, seed + 2));
    device->store_heads(first_rows(q, count), first_rows(k, count), first_rows(v, count), {nullptr, nullptr, rotary.get()},
                        *part.begin(device), 1, *cache);
  };
  std::vector<TokenPlace> before;
  for (uint32_t i = 0; i < 90; ++i) before.push_back({1, i});
  for (uint32_t i = 0; i < test.before; ++i) before.push_back({2, i});
  store(before, 1);
  // 150 positions of a prompt, one more token of sequence 2, and the rest of sequence 1's prompt.
  for (uint32_t i = 0; i < 150; ++i) inputs.places.push_back({0, i});
  inputs.places.push_back({2, test.before});
  for (uint32_t i = 0; i < 75; ++i) inputs.places.push_back({1, 90 + i});
  store(inputs.places, 10);

  const size_t rows = inputs.places.size(), width = test.heads * test.head_width;
  const std::vector<float> x = random_values(rows * width, 20);
  const AttentionSettings settings{1, test.heads, test.window, 1.0f / std::sqrt(static_cast<float>(test.head_width)), test.softcap};
  const auto queries = device.rows(width, x), together = device.empty(rows, width), single = device.empty(rows, width);
  device->attend(first_rows(queries, rows), *cache, settings, *inputs.begin(device), first_rows(together, rows));
  for (size_t first = 0; first < rows; first += 10) {
    const size_t count = std::min<size_t>(10, rows - first);
    TestStep part = inputs;
    part.places.assign(inputs.places.begin() + static_cast<std::ptrdiff_t>(first),
                       inputs.places.begin() + static_cast<std::ptrdiff_t>(first + count));
    device->attend(first_rows(queries, rows).slice(first, count), *cache, settings, *part.begin(device),
                   first_rows(single, rows).slice(first, count));
  }
  const std::vector<float> found = device.values(together), expected = device.values(single);
  double difference = 0.0, size = 0.0;
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(double{found[i]}, double{expected[i]}, 0.02) << "row " << i / width << ", element " << i % width;
    difference += std::pow(double{found[i]} - double{expected[i]}, 2);
    size += std::pow(double{expected[i]}, 2);
  }
  EXPECT_LT(std::sqrt(difference / size), 2e-3);
}

// Keys and values of rows that each are of another sequence are stored by the kernel that attends, or by one before it.
TEST_P(CudaAttention, StoringAndAttendingInOneLaunchGivesTheSame) {
  if (find_cuda_devices().devices.empty()) GTEST_SKIP() << find_cuda_devices().problem;
  const Case& test = GetParam();
  const TestDevice device({.name = "cuda"});
  const uint32_t pages_each = test.before / device->page_positions() + 2;
  constexpr uint32_t kSequences = 3;
  const auto rotary = device->make_rotary_table({{1.0f, 0.1f, 0.01f}, 1.0f}, pages_each * device->page_positions());
  const HeadRules rules{nullptr, nullptr, rotary.get()};
  const uint32_t query_width = test.heads * test.head_width, key_width = test.shared * test.head_width;
  const AttentionSettings settings{0, test.heads, test.window, 1.0f / std::sqrt(static_cast<float>(test.head_width)), test.softcap};
  const auto results = [&](bool in_one_launch) {
    const auto cache = device->make_cache({1, test.shared, test.head_width, kSequences * pages_each, test.type});
    TestStep inputs;
    inputs.pages_per_sequence = pages_each;
    inputs.pages.clear();
    for (uint32_t i = 0; i < kSequences * pages_each; ++i) inputs.pages.push_back(kSequences * pages_each - 1 - i);
    const auto rows_of = [&](size_t width, uint64_t seed) {
      return device.rows(width, random_values(inputs.places.size() * width, seed));
    };
    for (uint32_t i = 0; i < test.before; ++i) inputs.places.push_back({2, i});
    {
      const auto q = rows_of(query_width, 1), k = rows_of(key_width, 2), v = rows_of(key_width, 3);
      const size_t count = inputs.places.size();
      device->store_heads(first_rows(q, count), first_rows(k, count), first_rows(v, count), rules, *inputs.begin(device), 0,
                          *cache);
    }
    inputs.places = {{0, 0}, {2, test.before}, {1, 0}};
    const size_t count = inputs.places.size();
    const auto q = rows_of(query_width, 4), k = rows_of(key_width, 5), v = rows_of(key_width, 6),
               out = device.empty(count, query_width);
    const auto step = inputs.begin(device);
    if (in_one_launch) {
      device->store_and_attend(first_rows(q, count), first_rows(k, count), first_rows(v, count), rules, *step, *cache, settings,
                               first_rows(out, count));
    } else {
      device->store_heads(first_rows(q, count), first_rows(k, count), first_rows(v, count), rules, *step, 0, *cache);
      device->attend(first_rows(q, count), *cache, settings, *step, first_rows(out, count));
    }
    return device.values(out);
  };
  EXPECT_EQ(results(true), results(false));
}

INSTANTIATE_TEST_SUITE_P(Heads, CudaAttention,
                         testing::Values(Case{64, 9, 3, 0, 0.0f}, Case{128, 8, 2, 0, 0.0f}, Case{128, 4, 4, 70, 0.0f},
                                         Case{80, 4, 2, 0, 30.0f}, Case{256, 4, 2, 100, 50.0f}, Case{20, 5, 1, 0, 0.0f},
                                         Case{128, 8, 2, 0, 0.0f, CacheType::kFloat8}, Case{80, 4, 2, 70, 0.0f, CacheType::kInt8},
                                         Case{64, 9, 3, 0, 30.0f, CacheType::kInt8}, Case{256, 4, 2, 0, 0.0f, CacheType::kFloat8},
                                         Case{128, 8, 2, 0, 0.0f, CacheType::kFloat16, 2000},
                                         Case{64, 9, 3, 0, 30.0f, CacheType::kInt8, 1100},
                                         Case{256, 4, 2, 1500, 0.0f, CacheType::kFloat16, 1800},
                                         Case{128, 4, 2, 0, 0.0f, CacheType::kFloat32, 1300}));

}  // namespace
}  // namespace tritllm
