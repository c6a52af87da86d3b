// What every backend must do, operation by operation, against formulas in double precision, in odd sizes. Rows go in and come out
// by write() and read() alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <vector>

#include "backend/device_under_test.h"
#include "backend/random_ternary.h"
#include "core/half.h"
#include "sampling/draw.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

class Conformance : public testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (!GetParam().missing.empty()) GTEST_SKIP() << GetParam().missing;
  }

  // Of the CPU where the test is skipped.
  TestDevice device{GetParam().missing.empty() ? GetParam() : DeviceKind{.name = "cpu"}};
};

INSTANTIATE_TEST_SUITE_P(Devices, Conformance, testing::ValuesIn(device_kinds()), [](const auto& kind) { return kind.param.name; });

std::vector<double> normed(const std::vector<float>& x, size_t width, const std::vector<float>& gain, double epsilon) {
  std::vector<double> out(x.size());
  for (size_t row = 0; row < x.size(); row += width) {
    double squares = 0.0;
    for (size_t i = 0; i < width; ++i) squares += double{x[row + i]} * double{x[row + i]};
    for (size_t i = 0; i < width; ++i) {
      out[row + i] = double{x[row + i]} * double{gain[i]} / std::sqrt(squares / static_cast<double>(width) + epsilon);
    }
  }
  return out;
}

TEST_P(Conformance, RowsKeepWhatIsWritten) {
  const auto buffer = device.empty(5, 37);
  EXPECT_EQ(device.values(buffer), std::vector<float>(5 * 37, 0.0f));
  const std::vector<float> x = random_values(3 * 37, 1);
  device->write(x, Rows{buffer.get(), 1, 3});
  EXPECT_EQ(device.values(Rows{buffer.get(), 1, 3}), x);
  std::vector<float> all(37, 0.0f);
  all.insert(all.end(), x.begin(), x.end());
  all.resize(5 * 37, 0.0f);
  EXPECT_EQ(device.values(buffer), all);
}

TEST_P(Conformance, EmbedScales) {
  const std::vector<float> table = random_values(50 * 37, 1);
  const RandomTernary ternary(3, 50, 37);
  TestStep inputs = TestStep::of_one(5);
  inputs.tokens = {49, 0, 7, 7, 23};
  const auto step = inputs.begin(device);
  for (const bool packed : {false, true}) {
    const auto matrix = packed ? device->upload_matrix(ternary.matrix) : device.matrix(table, 37);
    const std::vector<float>& expected = packed ? ternary.expected : table;
    for (const float scale : {1.0f, 6.25f}) {
      const auto rows = device.empty(5, 37);
      device->embed(*matrix, *step, scale, first_rows(rows, 5));
      const std::vector<float> out = device.values(rows);
      for (size_t i = 0; i < out.size(); ++i) {
        const double value = double{expected[inputs.tokens[i / 37] * 37 + i % 37]} * double{scale};
        ASSERT_NEAR(double{out[i]}, value, GetParam().float_error * std::max(1.0, std::abs(value))) << i;
      }
    }
  }
}

// Projections of several kinds that share an input, with and without a norm before, biases, and outputs that are added to; rows
// that leave a tile unfilled, columns that leave a block unfilled.
TEST_P(Conformance, Multiply) {
  constexpr size_t kWidth = 77;
  const RandomTernary ternaries[] = {{1, 33, kWidth}, {2, 150, kWidth}, {3, 16, kWidth}, {4, 65, kWidth}, {2, 1, kWidth}};
  const std::vector<float> dense = random_values(70 * kWidth, 1), bias = random_values(70, 2), gain = random_values(kWidth, 3);
  struct Case {
    std::unique_ptr<DeviceMatrix> matrix;
    const std::vector<float>* weights;
    bool ternary;
  };
  std::vector<Case> cases;
  for (const RandomTernary& one : ternaries) cases.push_back({device->upload_matrix(one.matrix), &one.expected, true});
  cases.push_back({device.matrix(dense, kWidth), &dense, false});
  const auto gains = device->upload_vector(gain);
  const Norm norm{gains.get(), 1e-3f};
  for (const size_t tokens : {1u, 2u, 5u, 9u, 17u, 70u}) {
    const std::vector<float> x = random_values(tokens * kWidth, tokens);
    const auto input = device.rows(kWidth, x);
    for (const bool with_norm : {false, true}) {
      for (const bool adds : {false, true}) {
        std::vector<std::unique_ptr<DeviceVector>> biases;
        std::vector<std::unique_ptr<RowBuffer>> outputs;
        std::vector<std::vector<float>> before;
        std::vector<Projection> projections;
        for (size_t k = 0; k < cases.size(); ++k) {
          const auto rows = static_cast<size_t>(cases[k].matrix->rows());
          biases.push_back(device->upload_vector(std::span(bias).first(std::min(rows, bias.size()))));
          before.push_back(random_values(tokens * rows, 40 + k));
          outputs.push_back(device.rows(rows, before.back()));
          const bool biased = k % 2 == 1 && rows <= bias.size();
          projections.push_back({cases[k].matrix.get(), biased ? biases[k].get() : nullptr, first_rows(outputs[k], tokens), adds});
        }
        device->multiply(first_rows(input, tokens), with_norm ? &norm : nullptr, projections);
        const std::vector<double> normed_x = with_norm ? normed(x, kWidth, gain, 1e-3) : std::vector<double>(x.begin(), x.end());
        for (size_t k = 0; k < cases.size(); ++k) {
          const auto rows = static_cast<size_t>(cases[k].matrix->rows());
          const std::vector<float> out = device.values(outputs[k]);
          double squares = 0.0, errors = 0.0;
          for (size_t i = 0; i < out.size(); ++i) {
            const size_t token = i / rows, row = i % rows;
            double sum = (adds ? double{before[k][i]} : 0.0) + (projections[k].bias != nullptr ? double{bias[row]} : 0.0);
            for (size_t c = 0; c < kWidth; ++c) {
              const double product = double{(*cases[k].weights)[row * kWidth + c]} * normed_x[token * kWidth + c];
              sum += product;
              squares += product * product;
            }
            errors += (sum - double{out[i]}) * (sum - double{out[i]});
          }
          EXPECT_LT(std::sqrt(errors / squares), cases[k].ternary ? GetParam().ternary_error : GetParam().dense_error)
              << "matrix " << k << ", tokens " << tokens << ", norm " << with_norm << ", adds " << adds;
        }
      }
    }
  }
}

// What damages one token must not reach the others, nor what later operations read beside its row.
TEST_P(Conformance, NaNStaysInItsRow) {
  constexpr size_t kWidth = 40, kRows = 33;
  for (int depth = 1; depth <= 4; ++depth) {
    const RandomTernary first(depth, kRows, kWidth), second(depth, kWidth, kRows);
    const std::unique_ptr<DeviceMatrix> matrices[] = {device->upload_matrix(first.matrix), device->upload_matrix(second.matrix)};
    for (const size_t tokens : {1u, 3u, 20u}) {
      std::vector<float> x = random_values(tokens * kWidth, tokens);
      x.back() = NAN;
      const auto input = device.rows(kWidth, x), middle = device.empty(tokens, kRows), output = device.empty(tokens, kWidth);
      device->multiply(first_rows(input, tokens), nullptr,
                       std::array{Projection{matrices[0].get(), nullptr, first_rows(middle, tokens)}});
      device->multiply(first_rows(middle, tokens), nullptr,
                       std::array{Projection{matrices[1].get(), nullptr, first_rows(output, tokens)}});
      const std::vector<float> values = device.values(output);
      for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(std::isnan(values[i]), i / kWidth == tokens - 1) << "depth " << depth;
    }
  }
}

// Two halves of rows lie side by side, two halves of columns add up.
TEST_P(Conformance, SlicesOfAMatrixGiveTheWhole) {
  constexpr size_t kWidth = 100, kRows = 90, kTokens = 3;
  const RandomTernary ternary(2, kRows, kWidth);
  const std::vector<float> dense = random_values(kRows * kWidth, 1), x = random_values(kTokens * kWidth, 2);
  for (const bool packed : {false, true}) {
    const WeightSource source = packed ? WeightSource(ternary.matrix, false) : device.source(dense, kWidth);
    const auto whole = device->upload_matrix(source);
    const auto input = device.rows(kWidth, x), expected = device.empty(kTokens, kRows);
    device->multiply(first_rows(input, kTokens), nullptr,
                     std::array{Projection{whole.get(), nullptr, first_rows(expected, kTokens)}});
    const std::vector<float> all = device.values(expected);
    const double error = (packed ? GetParam().ternary_error : GetParam().dense_error) * std::sqrt(double{kWidth}) * 10.0;

    const auto upper = device->upload_matrix(source, {.rows = 37}), lower = device->upload_matrix(source, {.first_row = 37});
    EXPECT_EQ(upper->rows(), 37u);
    EXPECT_EQ(lower->rows(), kRows - 37);
    const auto a = device.empty(kTokens, 37), b = device.empty(kTokens, kRows - 37);
    device->multiply(first_rows(input, kTokens), nullptr,
                     std::array{Projection{upper.get(), nullptr, first_rows(a, kTokens)},
                                Projection{lower.get(), nullptr, first_rows(b, kTokens)}});
    const std::vector<float> above = device.values(a), below = device.values(b);
    for (size_t i = 0; i < all.size(); ++i) {
      const size_t token = i / kRows, row = i % kRows;
      ASSERT_EQ(row < 37 ? above[token * 37 + row] : below[token * (kRows - 37) + row - 37], all[i]);
    }

    const auto left = device->upload_matrix(source, {.columns = 48}), right = device->upload_matrix(source, {.first_column = 48});
    EXPECT_EQ(left->columns(), 48u);
    EXPECT_EQ(right->columns(), kWidth - 48);
    std::vector<float> left_x, right_x;
    for (size_t token = 0; token < kTokens; ++token) {
      const auto row = x.begin() + static_cast<std::ptrdiff_t>(token * kWidth);
      left_x.insert(left_x.end(), row, row + 48);
      right_x.insert(right_x.end(), row + 48, row + kWidth);
    }
    const auto sum = device.empty(kTokens, kRows), left_in = device.rows(48, left_x), right_in = device.rows(kWidth - 48, right_x);
    device->multiply(first_rows(left_in, kTokens), nullptr, std::array{Projection{left.get(), nullptr, first_rows(sum, kTokens)}});
    device->multiply(first_rows(right_in, kTokens), nullptr,
                     std::array{Projection{right.get(), nullptr, first_rows(sum, kTokens), /*adds=*/true}});
    const std::vector<float> added = device.values(sum);
    for (size_t i = 0; i < all.size(); ++i) ASSERT_NEAR(double{added[i]}, double{all[i]}, error);
  }
}

TEST_P(Conformance, SlicesThatDoNotLieInTheMatrixAreRefused) {
  const RandomTernary ternary(2, 10, 100);
  for (const MatrixSlice& slice : {MatrixSlice{.first_row = 11},
                                   {.first_row = 5, .rows = 6},
                                   {.first_column = 8},
                                   {.columns = 8},
                                   {.first_column = 96, .columns = 16},
                                   {.first_column = UINT64_MAX - 15, .columns = 32}}) {
    expect_error(ErrorCode::kUsage, "slice", [&] { device->upload_matrix(ternary.matrix, slice); });
  }
}

struct AttendCase {
  uint32_t window;
  CacheType type;
  float softcap;
  bool head_norms;
};

// Keys and values of three sequences, two of which share their first page, on pages in no order; queries at the end of each, which
// lies beyond a page. Heads are normed and rotated, a part of each head is not rotated.
TEST_P(Conformance, StoredHeadsAreAttendedTo) {
  constexpr uint32_t kHeads = 6, kShared = 2, kWidth = 14, kPairs = 5, kLayers = 2, kSequences = 3;
  constexpr float kScale = 0.3f;
  const uint32_t page = device->page_positions(), positions = page + 43, queried = 4;
  const RotaryFrequencies frequencies{{1.0f, 0.3f, 0.05f, 0.004f, 0.0001f}, 1.25f};
  const auto rotary = device->make_rotary_table(frequencies, positions);
  const std::vector<float> query_gain = random_values(kWidth, 1), key_gain = random_values(kWidth, 2);
  const auto query_gains = device->upload_vector(query_gain), key_gains = device->upload_vector(key_gain);
  const Norm query_norm{query_gains.get(), 1e-3f}, key_norm{key_gains.get(), 1e-3f};
  // [sequence][layer][position][heads·width]; sequence 2 begins as sequence 0 does.
  const auto values_of = [&](uint64_t seed, uint32_t heads) {
    std::vector<std::vector<std::vector<float>>> all(kSequences);
    for (uint32_t s = 0; s < kSequences; ++s) {
      for (uint32_t l = 0; l < kLayers; ++l) {
        all[s].push_back(random_values(size_t{positions} * heads * kWidth, seed + 10 * s + l));
        if (s == 2) std::copy_n(all[0][l].begin(), size_t{page} * heads * kWidth, all[2][l].begin());
      }
    }
    return all;
  };
  const auto queries = values_of(100, kHeads), keys = values_of(200, kShared), values = values_of(300, kShared);
  const std::vector<PageId> pages = {3, 1, 0, 4, 3, 2};  // [sequence][page]
  for (const AttendCase& test : {AttendCase{0, CacheType::kFloat32, 0.0f, true},
                                 {1, CacheType::kFloat32, 0.0f, false},
                                 {30, CacheType::kFloat16, 0.0f, true},
                                 {100, CacheType::kFloat32, 3.0f, false},
                                 {UINT32_MAX, CacheType::kFloat16, 0.0f, false}}) {
    const auto cache = device->make_cache({kLayers, kShared, kWidth, 5, test.type});
    const HeadRules rules{test.head_norms ? &query_norm : nullptr, test.head_norms ? &key_norm : nullptr, rotary.get()};
    const auto slice_of = [&](const auto& all, uint32_t s, uint32_t l, uint32_t first, uint32_t count, uint32_t heads) {
      const auto begin = all[s][l].begin() + static_cast<std::ptrdiff_t>(size_t{first} * heads * kWidth);
      return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(size_t{count} * heads * kWidth));
    };
    std::vector<std::vector<float>> results;  // [layer], of the last step
    TestStep last;
    for (uint32_t l = 0; l < kLayers; ++l) {
      // What came before, in parts.
      for (uint32_t s = 0; s < kSequences; ++s) {
        for (uint32_t first = s == 2 ? page : 0; first < positions - queried; first += 200) {
          const uint32_t count = std::min(200u, positions - queried - first);
          TestStep part;
          part.pages = pages, part.pages_per_sequence = 2;
          for (uint32_t i = 0; i < count; ++i) part.places.push_back({s, first + i});
          const auto step = part.begin(device);
          const auto q = device.rows(kHeads * kWidth, slice_of(queries, s, l, first, count, kHeads)),
                     k = device.rows(kShared * kWidth, slice_of(keys, s, l, first, count, kShared)),
                     v = device.rows(kShared * kWidth, slice_of(values, s, l, first, count, kShared));
          device->store_heads(first_rows(q, count), first_rows(k, count), first_rows(v, count), rules, *step, l, *cache);
        }
      }
      last = TestStep();
      last.pages = pages, last.pages_per_sequence = 2;
      std::vector<float> q_values, k_values, v_values;
      for (uint32_t s = 0; s < kSequences; ++s) {
        for (uint32_t i = 0; i < queried; ++i) last.places.push_back({s, positions - queried + i});
        for (auto [to, all, heads] :
             {std::tuple{&q_values, &queries, kHeads}, {&k_values, &keys, kShared}, {&v_values, &values, kShared}}) {
          const std::vector<float> own = slice_of(*all, s, l, positions - queried, queried, heads);
          to->insert(to->end(), own.begin(), own.end());
        }
      }
      const size_t rows = last.places.size();
      const auto step = last.begin(device);
      const auto q = device.rows(kHeads * kWidth, q_values), k = device.rows(kShared * kWidth, k_values),
                 v = device.rows(kShared * kWidth, v_values), out = device.empty(rows, kHeads * kWidth);
      device->store_heads(first_rows(q, rows), first_rows(k, rows), first_rows(v, rows), rules, *step, l, *cache);
      device->attend(first_rows(q, rows), *cache, {l, kHeads, test.window, kScale, test.softcap}, *step, first_rows(out, rows));
      results.push_back(device.values(out));
    }

    const auto prepared = [&](const std::vector<float>& all, uint32_t heads, const std::vector<float>& gain, uint32_t position,
                              uint32_t head) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>((size_t{position} * heads + head) * kWidth);
      std::vector<float> own(begin, begin + kWidth);
      std::vector<double> x(own.begin(), own.end());
      if (test.head_norms) x = normed(own, kWidth, gain, 1e-3);
      for (uint32_t i = 0; i < kPairs; ++i) {
        const double angle = double{static_cast<float>(position) * frequencies.inverse_wavelengths[i]};
        const auto turned = std::complex<double>(x[i], x[i + kPairs]) * std::polar(1.25, angle);
        x[i] = turned.real(), x[i + kPairs] = turned.imag();
      }
      return x;
    };
    const auto cached = [&](double value) {
      return test.type == CacheType::kFloat16 ? double{float_from_half(half_from_float(static_cast<float>(value)))} : value;
    };
    const double error = GetParam().cache_error * (test.type == CacheType::kFloat16 ? 200.0 : 5.0);
    for (uint32_t l = 0; l < kLayers; ++l) {
      for (size_t row = 0; row < last.places.size(); row += 3) {
        const auto [s, position] = last.places[row];
        for (uint32_t head = 0; head < kHeads; ++head) {
          const std::vector<double> query = prepared(queries[s][l], kHeads, query_gain, position, head);
          const uint32_t shared = head / (kHeads / kShared);
          double total = 0.0, expected[kWidth] = {};
          const uint32_t first = test.window != 0 && position >= test.window ? position - test.window + 1 : 0;
          for (uint32_t other = first; other <= position; ++other) {
            const std::vector<double> key = prepared(keys[s][l], kShared, key_gain, other, shared);
            double score = 0.0;
            for (uint32_t i = 0; i < kWidth; ++i) score += query[i] * cached(key[i]);
            score *= double{kScale};
            if (test.softcap > 0.0f) score = double{test.softcap} * std::tanh(score / double{test.softcap});
            total += std::exp(score);
            for (uint32_t i = 0; i < kWidth; ++i) {
              expected[i] += std::exp(score) * cached(double{values[s][l][(size_t{other} * kShared + shared) * kWidth + i]});
            }
          }
          for (uint32_t i = 0; i < kWidth; ++i) {
            ASSERT_NEAR(double{results[l][(row * kHeads + head) * kWidth + i]}, expected[i] / total, error)
                << "window " << test.window << ", layer " << l << ", sequence " << s << ", position " << position << ", head "
                << head;
          }
        }
      }
    }
  }
}

// One row each of several sequences, short and long: what one operation does is what the two do that it consists of.
TEST_P(Conformance, StoreAndAttendIsBothOperations) {
  struct Case {
    uint32_t heads, shared, width;
    std::vector<uint32_t> positions;  // of the sequences' rows
    uint32_t window;
    CacheType type;
    bool head_norms;
  };
  for (const Case& test : {Case{6, 2, 14, {0}, 0, CacheType::kFloat16, true},
                           {8, 2, 128, {37}, 0, CacheType::kFloat16, false},
                           {8, 2, 128, {600}, 0, CacheType::kFloat16, false},
                           {32, 8, 128, {2103}, 0, CacheType::kFloat16, false},
                           {9, 3, 64, {63, 64, 701}, 0, CacheType::kFloat16, true},
                           {8, 1, 64, {511, 3, 0, 1023, 95, 512, 17}, 200, CacheType::kFloat16, false},
                           {4, 2, 256, {300, 5}, 0, CacheType::kFloat32, true}}) {
    const auto sequences = static_cast<uint32_t>(test.positions.size());
    const uint32_t longest = *std::ranges::max_element(test.positions) + 1, page = device->page_positions(),
                   pages_each = (longest + page - 1) / page, pairs = test.width / 2;
    RotaryFrequencies frequencies;
    for (uint32_t i = 0; i < pairs; ++i) frequencies.inverse_wavelengths.push_back(std::pow(0.001f, float(i) / float(pairs)));
    const auto rotary = device->make_rotary_table(frequencies, longest);
    const auto query_gains = device->upload_vector(random_values(test.width, 1)),
               key_gains = device->upload_vector(random_values(test.width, 2));
    const Norm query_norm{query_gains.get(), 1e-3f}, key_norm{key_gains.get(), 1e-3f};
    const HeadRules rules{test.head_norms ? &query_norm : nullptr, test.head_norms ? &key_norm : nullptr, rotary.get()};
    const AttentionSettings settings{1, test.heads, test.window, 0.2f, 0.0f};
    const size_t wide = size_t{test.heads} * test.width, narrow = size_t{test.shared} * test.width;
    std::vector<float> outputs[2];
    for (const bool together : {false, true}) {
      const auto cache = device->make_cache({2, test.shared, test.width, sequences * pages_each, test.type});
      TestStep inputs;
      inputs.pages.clear();
      inputs.pages_per_sequence = pages_each;
      for (uint32_t i = 0; i < sequences * pages_each; ++i) inputs.pages.push_back(sequences * pages_each - 1 - i);
      TestStep last = inputs;
      for (uint32_t s = 0; s < sequences; ++s) {
        last.places.push_back({s, test.positions[s]});
        if (test.positions[s] == 0) continue;
        TestStep before = inputs;
        for (uint32_t i = 0; i < test.positions[s]; ++i) before.places.push_back({s, i});
        const size_t rows = before.places.size();
        const auto step = before.begin(device);
        const auto q = device.rows(wide, random_values(rows * wide, s)),
                   k = device.rows(narrow, random_values(rows * narrow, 20 + s)),
                   v = device.rows(narrow, random_values(rows * narrow, 40 + s));
        device->store_heads(first_rows(q, rows), first_rows(k, rows), first_rows(v, rows), rules, *step, 1, *cache);
      }
      const auto step = last.begin(device);
      const auto q = device.rows(wide, random_values(sequences * wide, 60)),
                 k = device.rows(narrow, random_values(sequences * narrow, 61)),
                 v = device.rows(narrow, random_values(sequences * narrow, 62)), out = device.empty(sequences, wide);
      const Rows queries = first_rows(q, sequences), keys = first_rows(k, sequences), values = first_rows(v, sequences);
      if (together) {
        device->store_and_attend(queries, keys, values, rules, *step, *cache, settings, first_rows(out, sequences));
        // The keys and values are in the cache as well: attending to them again gives the same.
        const auto again = device.rows(wide, random_values(sequences * wide, 60));
        device->store_heads(first_rows(again, sequences), keys, values, rules, *step, 0, *cache);
        const auto second = device.empty(sequences, wide);
        device->attend(first_rows(again, sequences), *cache, settings, *step, first_rows(second, sequences));
        outputs[1] = device.values(second);
        EXPECT_EQ(device.values(out), outputs[1]);
      } else {
        device->store_heads(queries, keys, values, rules, *step, 1, *cache);
        device->attend(queries, *cache, settings, *step, first_rows(out, sequences));
        outputs[0] = device.values(out);
      }
    }
    for (size_t i = 0; i < outputs[0].size(); ++i) {
      ASSERT_NEAR(outputs[0][i], outputs[1][i], 1e-5) << "width " << test.width << ", element " << i;
    }
  }
}

TEST_P(Conformance, ACopiedPageIsThePage) {
  constexpr uint32_t kHeads = 2, kWidth = 16, kTokens = 20;
  const auto rotary = device->make_rotary_table({{1.0f, 0.5f}, 1.0f}, 64);
  const auto cache = device->make_cache({1, kHeads, kWidth, 3, CacheType::kFloat16});
  TestStep inputs = TestStep::of_one(kTokens);
  inputs.pages = {2};
  const auto step = inputs.begin(device);
  const std::vector<float> x = random_values(kTokens * kHeads * kWidth, 1);
  const auto attended = [&](const Step& by) {
    const auto q = device.rows(kHeads * kWidth, x), out = device.empty(kTokens, kHeads * kWidth);
    device->attend(first_rows(q, kTokens), *cache, {0, kHeads, 0, 0.3f, 0.0f}, by, first_rows(out, kTokens));
    return device.values(out);
  };
  const auto q = device.rows(kHeads * kWidth, x), k = device.rows(kHeads * kWidth, x), v = device.rows(kHeads * kWidth, x);
  device->store_heads(first_rows(q, kTokens), first_rows(k, kTokens), first_rows(v, kTokens), {nullptr, nullptr, rotary.get()},
                      *step, 0, *cache);
  const std::vector<float> expected = attended(*step);
  device->copy_page(*cache, 2, 0);
  inputs.pages = {0};
  EXPECT_EQ(attended(*inputs.begin(device)), expected);
  inputs.pages = {1};
  EXPECT_NE(attended(*inputs.begin(device)), expected);
}

TEST_P(Conformance, GateAndSoftCap) {
  constexpr size_t kWidth = 53, kTokens = 400;
  const std::vector<float> gate = random_values(kTokens * kWidth, 1), up = random_values(kTokens * kWidth, 2);
  const auto expected = [](Activation activation, double x) {
    switch (activation) {
      case Activation::kSilu: return x / (1.0 + std::exp(-x));
      case Activation::kGeluErf: return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
      case Activation::kGeluTanh: return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    }
    return 0.0;
  };
  for (const Activation activation : {Activation::kSilu, Activation::kGeluErf, Activation::kGeluTanh}) {
    const auto a = device.rows(kWidth, gate), b = device.rows(kWidth, up);
    device->gate(activation, first_rows(a, kTokens), first_rows(b, kTokens), first_rows(a, kTokens));
    const std::vector<float> out = device.values(a);
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(double{out[i]}, expected(activation, double{gate[i]}) * double{up[i]}, GetParam().float_error * 5.0);
    }
  }
  const auto rows = device.rows(kWidth, gate);
  device->soft_cap(first_rows(rows, kTokens), 0.7f);
  const std::vector<float> capped = device.values(rows);
  for (size_t i = 0; i < capped.size(); ++i) {
    ASSERT_NEAR(double{capped[i]}, double{0.7f} * std::tanh(double{gate[i]} / double{0.7f}), GetParam().float_error);
  }
}

TEST_P(Conformance, MultiplyGatedIsBothOperations) {
  for (const size_t width : {77u, 1100u}) {
    for (const int depth : {0, 1, 2, 3, 4}) {
      constexpr size_t kRows = 150;
      const std::vector<float> dense = random_values(kRows * width, 1), gain = random_values(width, 3),
                               bias = random_values(kRows, 4);
      // Two parts of one matrix.
      const RandomTernary ternary(std::max(depth, 1), 2 * kRows, width);
      const auto matrix = [&](uint64_t seed) {
        if (depth == 0) return device.matrix(random_values(kRows * width, seed), width);
        return device->upload_matrix(ternary.matrix, {.first_row = kRows * (seed % 2), .rows = kRows});
      };
      const auto gate_weights = matrix(5), up_weights = matrix(6);
      const auto gains = device->upload_vector(gain), biases = device->upload_vector(bias);
      const Norm norm{gains.get(), 1e-3f};
      for (const size_t tokens : {1u, 3u, 200u}) {
        const auto input = device.rows(width, random_values(tokens * width, 7));
        for (const Activation activation : {Activation::kSilu, Activation::kGeluErf, Activation::kGeluTanh}) {
          const bool normed_and_biased = activation != Activation::kGeluErf;
          const Norm* const used = normed_and_biased ? &norm : nullptr;
          const DeviceVector* const added = normed_and_biased ? biases.get() : nullptr;
          const auto a = device.empty(tokens, kRows), b = device.empty(tokens, kRows), c = device.empty(tokens, kRows),
                     d = device.empty(tokens, kRows);
          const Projection parts[] = {{gate_weights.get(), added, first_rows(a, tokens)},
                                      {up_weights.get(), nullptr, first_rows(b, tokens)}};
          device->multiply(first_rows(input, tokens), used, parts);
          device->gate(activation, first_rows(a, tokens), first_rows(b, tokens), first_rows(a, tokens));
          device->multiply_gated(first_rows(input, tokens), used, {gate_weights.get(), added, first_rows(c, tokens)},
                                 {up_weights.get(), nullptr, first_rows(d, tokens)}, activation);
          const std::vector<float> expected = device.values(a), found = device.values(c);
          for (size_t i = 0; i < found.size(); ++i) {
            ASSERT_NEAR(found[i], expected[i], 1e-3 * std::max(1.0f, std::abs(expected[i])))
                << "depth " << depth << ", element " << i;
          }
        }
      }
    }
  }
}

TEST_P(Conformance, AddNormedAndGather) {
  constexpr size_t kWidth = 53, kTokens = 400;
  const std::vector<float> x = random_values(kTokens * kWidth, 1), to = random_values(kTokens * kWidth, 2),
                           gain = random_values(kWidth, 3);
  const auto gains = device->upload_vector(gain);
  const auto a = device.rows(kWidth, x), b = device.rows(kWidth, to);
  device->add_normed(first_rows(a, kTokens), {gains.get(), 1e-3f}, first_rows(b, kTokens));
  EXPECT_EQ(device.values(a), x);
  const std::vector<float> sums = device.values(b);
  const std::vector<double> added = normed(x, kWidth, gain, 1e-3);
  for (size_t i = 0; i < sums.size(); ++i) ASSERT_NEAR(double{sums[i]}, double{to[i]} + added[i], GetParam().float_error * 5.0);

  TestStep inputs = TestStep::of_one(kTokens);
  inputs.scored = {0, 17, 18, 200, 399};
  const auto step = inputs.begin(device);
  EXPECT_EQ(step->scored(), 5u);
  const auto out = device.empty(3, kWidth);
  device->gather(first_rows(a, kTokens), *step, 2, first_rows(out, 3));
  const std::vector<float> gathered = device.values(out);
  for (size_t i = 0; i < gathered.size(); ++i) ASSERT_EQ(gathered[i], x[inputs.scored[2 + i / kWidth] * kWidth + i % kWidth]);
}

TEST_P(Conformance, ChoosesAsTheSpecificationDoes) {
  constexpr size_t kVocabulary = 1003, kRows = 40;
  std::vector<float> logits = random_values(kRows * kVocabulary, 1);
  for (float& logit : logits) logit *= 4.0f;
  std::vector<DrawSettings> draws(kRows);
  std::mt19937_64 random(2);
  for (size_t row = 0; row < kRows; ++row) {
    DrawSettings& draw = draws[row];
    draw.temperature = row % 4 == 0 ? 0.0f : 0.5f + static_cast<float>(row % 3);
    if (row % 3 == 1) draw.top_k = 1 + static_cast<uint32_t>(row);
    if (row % 5 == 2) draw.top_p = 0.8f;
    if (row % 7 == 3) draw.min_p = 0.05f;
    if (row % 11 == 5) draw.typical_p = 0.9f;
    draw.uniform = std::uniform_real_distribution<double>(0, 1)(random);
  }
  logits[kVocabulary * 8 + 500] = logits[kVocabulary * 8 + 900] = 100.0f;  // greedy: of equal ones the lowest token
  logits[kVocabulary * 9 + 3] = NAN;
  std::fill_n(logits.begin() + kVocabulary * 10, kVocabulary, -std::numeric_limits<float>::infinity());
  logits[kVocabulary * 12 + 7] = std::numeric_limits<float>::infinity();
  std::fill_n(logits.begin() + kVocabulary * 13, kVocabulary - 1, -std::numeric_limits<float>::infinity());

  const auto rows = device.rows(kVocabulary, logits);
  const auto chosen = device->make_chosen_tokens(kRows);
  device->choose(first_rows(rows, kRows), draws, *chosen);
  std::vector<uint32_t> tokens(kRows);
  device->tokens(*chosen, tokens);
  TokenDraw specification;
  for (size_t row = 0; row < kRows; ++row) {
    if (row == 9 || row == 10 || row == 12) {
      EXPECT_EQ(tokens[row], kNoToken) << row;
      continue;
    }
    EXPECT_EQ(tokens[row], specification.draw(std::span(logits).subspan(row * kVocabulary, kVocabulary), draws[row])) << row;
  }
  EXPECT_EQ(tokens[8], 500u);
  EXPECT_EQ(tokens[13], kVocabulary - 1);

  // The next step begins with them.
  const std::vector<float> table = random_values(kVocabulary * 8, 3);
  const auto matrix = device.matrix(table, 8);
  TestStep inputs = TestStep::of_one(3);
  inputs.tokens = {kChosenToken | 8, 5, kChosenToken | 13};
  inputs.chosen = chosen.get();
  const auto embedded = device.empty(3, 8);
  device->embed(*matrix, *inputs.begin(device), 1.0f, first_rows(embedded, 3));
  const std::vector<float> found = device.values(embedded);
  for (size_t i = 0; i < 24; ++i) ASSERT_EQ(found[i], table[(i < 8 ? 500u : i < 16 ? 5u : kVocabulary - 1) * 8 + i % 8]);
}

// A vocabulary of real size: peaked and flat rows, settings that keep one token, many, and all.
TEST_P(Conformance, ChoosesAmongManyTokensAsTheSpecificationDoes) {
  constexpr size_t kVocabulary = 70001, kRows = 72;
  std::vector<float> logits = random_values(kRows * kVocabulary, 5);
  std::vector<DrawSettings> draws(kRows);
  std::mt19937_64 random(6);
  for (size_t row = 0; row < kRows; ++row) {
    const float spread = row % 4 == 0 ? 0.1f : row % 4 == 1 ? 3.0f : row % 4 == 2 ? 12.0f : 60.0f;
    for (size_t token = 0; token < kVocabulary; ++token) logits[row * kVocabulary + token] *= spread;
    if (row % 8 == 5) std::fill_n(logits.begin() + static_cast<ptrdiff_t>(row * kVocabulary + 7), 600, 9.5f);  // many equal ones
    DrawSettings& draw = draws[row];
    draw.temperature = row % 9 == 8 ? 0.0f : 0.7f;
    switch (row % 6) {
      case 0: draw.top_p = 0.95f; break;
      case 1: draw.top_k = 40, draw.top_p = 0.9f; break;
      case 2: draw.min_p = 0.02f; break;
      case 3: draw.top_k = row % 4 == 3 ? 5000 : 1; break;
      case 4: draw.top_p = row % 4 == 2 ? 0.99999f : 0.3f, draw.min_p = 0.1f; break;
      default: break;  // temperature alone
    }
    draw.uniform = row < 12 ? 0.0 : row < 24 ? std::nextafter(1.0, 0.0) : std::uniform_real_distribution<double>(0, 1)(random);
  }
  const auto rows = device.rows(kVocabulary, logits);
  const auto chosen = device->make_chosen_tokens(kRows);
  TokenDraw specification;
  for (int run = 0; run < 2; ++run) {  // a second one finds what the first one left behind
    device->choose(first_rows(rows, kRows), draws, *chosen);
    std::vector<uint32_t> tokens(kRows);
    device->tokens(*chosen, tokens);
    for (size_t row = 0; row < kRows; ++row) {
      EXPECT_EQ(tokens[row], specification.draw(std::span(logits).subspan(row * kVocabulary, kVocabulary), draws[row])) << row;
    }
  }
}

TEST_P(Conformance, MomentsAreSumsOverAllRows) {
  constexpr size_t kWidth = 21, kTokens = 33;
  const std::vector<float> x = random_values(kTokens * kWidth, 1), gain = random_values(kWidth, 2);
  const auto gains = device->upload_vector(gain);
  const Norm norm{gains.get(), 1e-3f};
  const auto rows = device.rows(kWidth, x);
  for (const bool with_norm : {false, true}) {
    const std::vector<double> input = with_norm ? normed(x, kWidth, gain, 1e-3) : std::vector<double>(x.begin(), x.end());
    const auto squares = device->make_moments(kWidth, MomentKind::kSquares),
               products = device->make_moments(kWidth, MomentKind::kOuterProduct);
    for (const auto& [first, count] : {std::pair{0, 20}, {20, 13}}) {  // in two parts
      const Rows part = first_rows(rows, kTokens).slice(static_cast<size_t>(first), static_cast<size_t>(count));
      device->add_moments(part, with_norm ? &norm : nullptr, *squares);
      device->add_moments(part, with_norm ? &norm : nullptr, *products);
    }
    std::vector<double> found(kWidth), matrix(kWidth * kWidth);
    device->read(*squares, found);
    device->read(*products, matrix);
    for (size_t i = 0; i < kWidth; ++i) {
      for (size_t j = 0; j < kWidth; ++j) {
        double sum = 0.0;
        for (size_t row = 0; row < kTokens; ++row) sum += input[row * kWidth + i] * input[row * kWidth + j];
        ASSERT_NEAR(matrix[i * kWidth + j], sum, GetParam().float_error * 30.0);
        if (i == j) {
          ASSERT_NEAR(found[i], sum, GetParam().float_error * 30.0);
        }
      }
    }
  }
}

// The same key runs again with what the step holds then.
TEST_P(Conformance, RecordedOperationsReadTheStepAnew) {
  const std::vector<float> table = random_values(50 * 24, 1);
  const auto matrix = device.matrix(table, 24);
  const auto rows = device.empty(2, 24);
  TestStep inputs = TestStep::of_one(2);
  const auto step = inputs.begin(device);
  const StepKey key{this, step.get(), nullptr, 2, 0, 0};
  for (const uint32_t token : {3u, 17u, 49u}) {
    inputs.tokens = {token, 49 - token};
    inputs.begin_into(device, *step);
    device->run(key, [&] { device->embed(*matrix, *step, 1.0f, first_rows(rows, 2)); });
    const std::vector<float> found = device.values(rows);
    for (size_t i = 0; i < 48; ++i) ASSERT_EQ(found[i], table[inputs.tokens[i / 24] * 24 + i % 24]);
  }
}

}  // namespace
}  // namespace tritllm
