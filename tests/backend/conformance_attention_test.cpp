// What every backend must do with heads, the key/value cache and attention, against formulas in double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "backend/device_under_test.h"
#include "core/half.h"

namespace tritllm {
namespace {

class AttentionConformance : public DeviceTest {};

INSTANTIATE_TEST_SUITE_P(Devices, AttentionConformance, testing::ValuesIn(device_kinds()), device_name);

struct AttendCase {
  uint32_t window;
  CacheType type;
  float softcap;
  bool head_norms;
};

// What a cache of a type keeps of a head's key or value.
std::vector<double> cached(std::vector<double> head, CacheType type) {
  const auto as_half = [](double value) { return double{float_from_half(half_from_float(static_cast<float>(value)))}; };
  double largest = 0.0;
  for (const double value : head) largest = std::max(largest, std::abs(value));
  const bool integers = type == CacheType::kInt8;
  const double wanted = largest / (integers ? 127.0 : 448.0);
  double scale = as_half(wanted);
  if (scale < wanted) scale = double{float_from_half(static_cast<uint16_t>(half_from_float(static_cast<float>(wanted)) + 1))};
  for (double& value : head) {
    if (type == CacheType::kFloat16) value = as_half(value);
    if (integers) value = std::nearbyint(value / scale) * scale;
    if (type == CacheType::kFloat8) {
      // Three bits after the first, and whole multiples of 2^-9.
      const double step = std::ldexp(1.0, std::max(value == 0.0 ? -6 : std::ilogb(value / scale), -6) - 3);
      value = std::nearbyint(value / scale / step) * step * scale;
    }
  }
  return head;
}

// Keys and values of three sequences, two of which share their first page, on pages in no order; queries at the end of each, which
// lies beyond a page. Heads are normed and rotated, a part of each head is not rotated.
TEST_P(AttentionConformance, StoredHeadsAreAttendedTo) {
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
                                 {UINT32_MAX, CacheType::kFloat16, 0.0f, false},
                                 {0, CacheType::kFloat8, 0.0f, true},
                                 {1, CacheType::kFloat8, 0.0f, false},
                                 {40, CacheType::kInt8, 5.0f, true},
                                 {0, CacheType::kInt8, 0.0f, false}}) {
    const CacheShape shape{kLayers, kShared, kWidth, 5, test.type};
    const auto cache = device->make_cache(shape);
    EXPECT_EQ(cache->bytes(), device->cache_bytes(shape));
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
    const bool bytes = test.type == CacheType::kFloat8 || test.type == CacheType::kInt8;
    // Keys are computed here in double precision, so that some round to another neighbour.
    const double error = GetParam().cache_error * (bytes ? 500.0 : test.type == CacheType::kFloat16 ? 200.0 : 5.0);
    for (uint32_t l = 0; l < kLayers; ++l) {
      for (size_t row = 0; row < last.places.size(); row += 3) {
        const auto [s, position] = last.places[row];
        for (uint32_t head = 0; head < kHeads; ++head) {
          const std::vector<double> query = prepared(queries[s][l], kHeads, query_gain, position, head);
          const uint32_t shared = head / (kHeads / kShared);
          double total = 0.0, expected[kWidth] = {};
          const uint32_t first = test.window != 0 && position >= test.window ? position - test.window + 1 : 0;
          for (uint32_t other = first; other <= position; ++other) {
            const std::vector<double> key = cached(prepared(keys[s][l], kShared, key_gain, other, shared), test.type);
            const auto own_value = values[s][l].begin() + static_cast<std::ptrdiff_t>((size_t{other} * kShared + shared) * kWidth);
            const std::vector<double> value = cached({own_value, own_value + kWidth}, test.type);
            double score = 0.0;
            for (uint32_t i = 0; i < kWidth; ++i) score += query[i] * key[i];
            score *= double{kScale};
            if (test.softcap > 0.0f) score = double{test.softcap} * std::tanh(score / double{test.softcap});
            total += std::exp(score);
            for (uint32_t i = 0; i < kWidth; ++i) expected[i] += std::exp(score) * value[i];
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
TEST_P(AttentionConformance, StoreAndAttendIsBothOperations) {
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
                           {32, 8, 128, {1500}, 0, CacheType::kFloat8, false},
                           {8, 1, 64, {511, 3, 0, 1023, 95, 512, 17}, 200, CacheType::kInt8, true},
                           {4, 2, 80, {300, 5}, 0, CacheType::kFloat8, true},
                           {4, 2, 256, {300, 5}, 0, CacheType::kInt8, false},
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

TEST_P(AttentionConformance, ACopiedPageIsThePage) {
  constexpr uint32_t kHeads = 2, kWidth = 16, kTokens = 20;
  const auto rotary = device->make_rotary_table({{1.0f, 0.5f}, 1.0f}, 64);
  for (const CacheType type : {CacheType::kFloat16, CacheType::kInt8}) {
    const auto cache = device->make_cache({1, kHeads, kWidth, 3, type});
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
}

}  // namespace
}  // namespace tritllm
