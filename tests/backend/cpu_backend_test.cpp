// What the CPU backend promises beyond every backend (conformance_test.cpp): the same bits for any number of threads, in any
// company and any cut of the tokens.
#include "backend/cpu/backend.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "backend/device_under_test.h"
#include "backend/random_ternary.h"
#include "kernels/kernel_table.h"
#include "kernels/ternary_kernels.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

const DeviceKind kCpu{.name = "cpu"};

// Runs an operation with several numbers of threads and returns its values, which must be the same bits.
std::vector<float> with_any_threads(const std::function<std::vector<float>(const TestDevice&)>& operation) {
  std::vector<float> alone = operation(TestDevice(kCpu, 1));
  for (const unsigned threads : {2u, 5u}) {
    const std::vector<float> together = operation(TestDevice(kCpu, threads));
    EXPECT_EQ(together.size(), alone.size());
    for (size_t i = 0; i < std::min(alone.size(), together.size()); ++i) {
      if (std::bit_cast<uint32_t>(together[i]) == std::bit_cast<uint32_t>(alone[i])) continue;
      ADD_FAILURE() << threads << " threads differ at " << i;
      break;
    }
  }
  return alone;
}

TEST(CpuBackend, SaysWhatItIs) {
  const TestDevice device(kCpu, 3);
  EXPECT_EQ(device->description(), std::string("cpu (") + kernels::active_table().name + ", 3 threads)");
}

TEST(CpuBackend, UnknownDevicesAreRefused) {
  ThreadPool pool(1);
  expect_error(ErrorCode::kUsage, "abacus", [&] { make_backend("abacus", Arithmetic::kInteger, pool); });
}

// Several depths next to a dense matrix, with a norm, biases and outputs that are added to.
TEST(CpuBackend, ProductsHaveTheSameBitsForAnyNumberOfThreads) {
  constexpr size_t kWidth = 37;
  const RandomTernary ternaries[] = {{2, 150, kWidth}, {4, 65, kWidth}, {2, 1300, kWidth}, {1, 1, kWidth}, {3, 16, kWidth}};
  const std::vector<float> dense = random_values(20 * kWidth, 1), bias = random_values(65, 2), gain = random_values(kWidth, 3);
  for (const size_t tokens : {1u, 2u, 17u, 70u}) {
    const std::vector<float> x = random_values(tokens * kWidth, tokens);
    for (const bool with_norm : {false, true}) {
      with_any_threads([&](const TestDevice& device) {
        std::vector<std::unique_ptr<DeviceMatrix>> matrices;
        for (const RandomTernary& ternary : ternaries) matrices.push_back(device->upload_matrix(ternary.matrix));
        matrices.push_back(device.matrix(dense, kWidth));
        const auto biases = device->upload_vector(bias), gains = device->upload_vector(gain);
        const Norm norm{gains.get(), 1e-5f};
        const auto input = device.rows(kWidth, x);
        std::vector<std::unique_ptr<RowBuffer>> outputs;
        std::vector<Projection> projections;
        for (size_t k = 0; k < matrices.size(); ++k) {
          outputs.push_back(device.rows(static_cast<size_t>(matrices[k]->rows()), random_values(tokens * matrices[k]->rows(), k)));
          projections.push_back({matrices[k].get(), k == 1 ? biases.get() : nullptr, first_rows(outputs[k], tokens), k % 3 == 0});
        }
        device->multiply(first_rows(input, tokens), with_norm ? &norm : nullptr, projections);
        std::vector<float> all;
        for (const auto& output : outputs) {
          const std::vector<float> values = device.values(output);
          all.insert(all.end(), values.begin(), values.end());
        }
        return all;
      });
    }
  }
}

// So many tokens that their activations at depth 1 exceed what is quantised at once: each token's outputs are those that it has
// alone.
TEST(CpuBackend, MultiplyInPartsOfTheTokens) {
  constexpr size_t kWidth = 4096, kRows = 100;
  const kernels::TernaryKernels& table = *kernels::active_table().ternary;
  const auto& product = table.products[static_cast<size_t>(kernels::TileFormat::kTriples)];
  const size_t kTokens = table.activation_bytes_at_once / (kernels::blocks_of(kWidth) * product.activation_bytes(100)) + 10;
  const RandomTernary ternary(1, kRows, kWidth), other(2, kRows, kWidth);
  const std::vector<float> x = random_values(kTokens * kWidth, 3), bias = random_values(kRows, 4), gain = random_values(kWidth, 5);
  const TestDevice device(kCpu);
  const std::unique_ptr<DeviceMatrix> matrices[] = {device->upload_matrix(ternary.matrix), device->upload_matrix(other.matrix)};
  const auto biases = device->upload_vector(bias), gains = device->upload_vector(gain);
  const Norm norm{gains.get(), 1e-5f};
  const auto product_of = [&](const std::vector<float>& inputs) {
    const size_t tokens = inputs.size() / kWidth;
    const auto input = device.rows(kWidth, inputs), first = device.empty(tokens, kRows), second = device.empty(tokens, kRows);
    const Projection projections[] = {{matrices[0].get(), biases.get(), first_rows(first, tokens)},
                                      {matrices[1].get(), nullptr, first_rows(second, tokens), /*adds=*/true}};
    device->multiply(first_rows(input, tokens), &norm, projections);
    return std::array{device.values(first), device.values(second)};
  };
  const auto together = product_of(x);
  const bool exact = table.most_exact_tokens >= kTokens;
  for (size_t token = 0; token < kTokens; ++token) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(token * kWidth);
    const auto alone = product_of({begin, begin + kWidth});
    for (size_t k = 0; k < 2; ++k) {
      double squares = 0.0, errors = 0.0;
      for (size_t row = 0; row < kRows; ++row) {
        const double expected = double{alone[k][row]}, error = double{together[k][token * kRows + row]} - expected;
        squares += expected * expected;
        errors += error * error;
      }
      ASSERT_LE(std::sqrt(errors / squares), exact ? 0.0 : 0.02) << "token " << token << ", matrix " << k;
    }
  }
}

// In one piece, token by token, and in uneven pieces among other sequences: the same bits, with any number of threads.
TEST(CpuBackend, AttendDoesNotDependOnThePieces) {
  constexpr uint32_t kHeads = 6, kShared = 2, kWidth = 20, kSequences = 2, kPositions = 1100, kFirst = 990;
  const std::vector<float> keys = random_values(kPositions * kSequences * kShared * kWidth, 1),
                           values = random_values(kPositions * kSequences * kShared * kWidth, 2),
                           queries = random_values(kPositions * kSequences * kHeads * kWidth, 3);
  for (const uint32_t window : {0u, 600u}) {
    const auto run = [&](const TestDevice& device, const std::vector<std::vector<TokenPlace>>& pieces) {
      const uint32_t page = device->page_positions(), pages = (kPositions + page - 1) / page;
      TestStep inputs;
      inputs.pages_per_sequence = pages;
      inputs.pages.clear();
      for (PageId id = 0; id < pages * kSequences; ++id) inputs.pages.push_back((id * 5 + 3) % (pages * kSequences));
      const auto rotary = device->make_rotary_table({{0.0f}, 1.0f}, kPositions);  // turns nothing
      const auto cache = device->make_cache({1, kShared, kWidth, pages * kSequences, CacheType::kFloat16});
      for (uint32_t i = 0; i < kSequences * kPositions; ++i) inputs.places.push_back({i / kPositions, i % kPositions});
      const size_t all = inputs.places.size();
      const auto q = device.rows(kHeads * kWidth, queries), k = device.rows(kShared * kWidth, keys),
                 v = device.rows(kShared * kWidth, values);
      device->store_heads(first_rows(q, all), first_rows(k, all), first_rows(v, all), {nullptr, nullptr, rotary.get()},
                          *inputs.begin(device), 0, *cache);
      std::vector<float> out(kSequences * kPositions * kHeads * kWidth);
      for (const std::vector<TokenPlace>& places : pieces) {
        std::vector<float> own;
        for (const TokenPlace place : places) {
          const auto begin = queries.begin() + (place.sequence * kPositions + place.position) * kHeads * kWidth;
          own.insert(own.end(), begin, begin + kHeads * kWidth);
        }
        inputs.places = places;
        const auto in = device.rows(kHeads * kWidth, own), result = device.empty(places.size(), kHeads * kWidth);
        device->attend(first_rows(in, places.size()), *cache, {0, kHeads, window, 0.3f, 0.0f}, *inputs.begin(device),
                       first_rows(result, places.size()));
        const std::vector<float> found = device.values(result);
        for (size_t i = 0; i < places.size(); ++i) {
          std::copy_n(found.begin() + static_cast<long>(i * kHeads * kWidth), kHeads * kWidth,
                      out.begin() + (places[i].sequence * kPositions + places[i].position) * kHeads * kWidth);
        }
      }
      return out;
    };
    std::vector<std::vector<TokenPlace>> whole(1), single, uneven(1);
    for (uint32_t position = kFirst; position < kPositions; ++position) {
      for (uint32_t sequence = 0; sequence < kSequences; ++sequence) single.push_back({{sequence, position}});
      if (uneven.back().size() >= 1 + position % 40) uneven.emplace_back();
      for (uint32_t sequence = 0; sequence < kSequences; ++sequence) uneven.back().push_back({sequence, position - sequence});
    }
    uneven.push_back({{1, kPositions - 1}});
    for (uint32_t sequence = 0; sequence < kSequences; ++sequence) {
      for (uint32_t position = kFirst; position < kPositions; ++position) whole[0].push_back({sequence, position});
    }
    const std::vector<float> expected = with_any_threads([&](const TestDevice& device) { return run(device, whole); });
    for (const auto& pieces : {single, uneven}) {
      const std::vector<float> found = with_any_threads([&](const TestDevice& device) { return run(device, pieces); });
      for (const TokenPlace place : whole[0]) {
        for (size_t i = 0; i < kHeads * kWidth; ++i) {
          const size_t at = (place.sequence * kPositions + place.position) * kHeads * kWidth + i;
          ASSERT_EQ(std::bit_cast<uint32_t>(found[at]), std::bit_cast<uint32_t>(expected[at]))
              << "sequence " << place.sequence << ", position " << place.position;
        }
      }
    }
  }
}

// Enough elements for several threads.
TEST(CpuBackend, RowOperationsHaveTheSameBitsForAnyNumberOfThreads) {
  constexpr size_t kWidth = 53, kTokens = 400;
  const std::vector<float> a = random_values(kTokens * kWidth, 1), b = random_values(kTokens * kWidth, 2),
                           gain = random_values(kWidth, 3);
  with_any_threads([&](const TestDevice& device) {
    const auto x = device.rows(kWidth, a), y = device.rows(kWidth, b);
    const auto gains = device->upload_vector(gain);
    device->gate(Activation::kSilu, first_rows(x, kTokens), first_rows(y, kTokens), first_rows(x, kTokens));
    device->add_normed(first_rows(x, kTokens), {gains.get(), 1e-5f}, first_rows(y, kTokens));
    device->soft_cap(first_rows(y, kTokens), 2.0f);
    return device.values(y);
  });
}

}  // namespace
}  // namespace tritllm
