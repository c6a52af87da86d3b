// Operations of the CPU backend against formulas in double precision, in odd sizes, and the same bits for any number of threads.
#include "backend/cpu_backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <complex>
#include <deque>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backend/random_ternary.h"
#include "core/half.h"

namespace tritllm {
namespace {

std::vector<float> random_values(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// A backend with helpers to put rows in and get them out.
class Device {
 public:
  explicit Device(unsigned threads) : pool_(threads), backend_(make_cpu_backend(pool_, kernels::active_table())) {}
  Backend* operator->() const { return backend_.get(); }

  RowStorage rows(size_t width, const std::vector<float>& values) const {
    const size_t count = values.size() / width;
    RowStorage storage = backend_->allocate_rows(count, width);
    for (size_t row = 0; row < count; ++row)
      std::copy_n(values.data() + row * width, width, storage.buffer->data() + row * storage.stride);
    return storage;
  }
  // Keeps a copy of the values, which the matrix may read in place.
  std::unique_ptr<DeviceMatrix> matrix(const std::vector<float>& values, uint64_t columns) const {
    SourceTensor tensor{};
    tensor.shape = {values.size() / columns, columns};
    tensor.type = ElementType::kF32;
    tensor.bytes = std::as_bytes(std::span(copies_.emplace_back(values)));
    return backend_->upload_matrix(tensor);
  }
  RowStorage empty(size_t count, size_t width) const { return backend_->allocate_rows(count, width); }

  // Without padding, which must still be zero.
  std::vector<float> values(const RowStorage& storage) const {
    const Rows rows = storage.first(storage.capacity);
    for (size_t row = 0; row < rows.count; ++row) {
      for (size_t i = rows.width; i < rows.stride; ++i)
        EXPECT_EQ(rows.data[row * rows.stride + i], 0.0f) << "padding of row " << row;
    }
    std::vector<float> out(rows.count * rows.width);
    backend_->read(rows, out);
    return out;
  }

 private:
  ThreadPool pool_;
  std::unique_ptr<Backend> backend_;
  mutable std::deque<std::vector<float>> copies_;
};

// Runs an operation with several numbers of threads and returns its values, which must be the same bits.
std::vector<float> with_any_threads(const std::function<std::vector<float>(const Device&)>& operation) {
  std::vector<float> alone = operation(Device(1));
  for (const unsigned threads : {2u, 5u}) {
    const std::vector<float> together = operation(Device(threads));
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
  const Device device(3);
  EXPECT_EQ(device->description(), std::string("cpu (") + kernels::active_table().name + ", 3 threads)");
}

TEST(CpuBackend, EmbedScales) {
  const std::vector<float> table = random_values(50 * 37, 1);
  const std::vector<uint32_t> tokens{49, 0, 7, 7, 23};
  for (const float scale : {1.0f, 6.25f}) {
    const std::vector<float> out = with_any_threads([&](const Device& device) {
      const auto matrix = device.matrix(table, 37);
      RowStorage rows = device.empty(tokens.size(), 37);
      device->embed(*matrix, tokens, scale, rows.first(tokens.size()));
      return device.values(rows);
    });
    for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], table[tokens[i / 37] * 37 + i % 37] * scale);
  }
}

TEST(CpuBackend, MultiplyWithBiasesAndSeveralProjections) {
  constexpr size_t kWidth = 37, kRows[] = {150, 1, 65};
  std::vector<std::vector<float>> weights;
  for (const size_t rows : kRows) weights.push_back(random_values(rows * kWidth, rows));
  const std::vector<float> biases[] = {random_values(150, 5), {}, random_values(65, 6)};
  for (const size_t tokens : {1u, 2u, 4u, 5u, 9u, 70u}) {
    const std::vector<float> x = random_values(tokens * kWidth, tokens);
    const std::vector<float> out = with_any_threads([&](const Device& device) {
      const RowStorage input = device.rows(kWidth, x);
      std::vector<std::unique_ptr<DeviceMatrix>> matrices;
      std::vector<DeviceVector> vectors;
      std::vector<RowStorage> outputs;
      std::vector<Projection> projections;
      for (size_t k = 0; k < 3; ++k) {
        matrices.push_back(device.matrix(weights[k], kWidth));
        vectors.push_back(device->upload_vector(biases[k]));
        outputs.push_back(device.empty(tokens, kRows[k]));
      }
      for (size_t k = 0; k < 3; ++k) {
        projections.push_back({matrices[k].get(), biases[k].empty() ? nullptr : &vectors[k], outputs[k].first(tokens)});
      }
      device->multiply(input.first(tokens), projections);
      std::vector<float> all;
      for (const RowStorage& output : outputs) {
        const std::vector<float> values = device.values(output);
        all.insert(all.end(), values.begin(), values.end());
      }
      return all;
    });
    size_t at = 0;
    for (size_t k = 0; k < 3; ++k) {
      for (size_t token = 0; token < tokens; ++token) {
        for (size_t row = 0; row < kRows[k]; ++row, ++at) {
          double sum = biases[k].empty() ? 0.0 : double{biases[k][row]};
          for (size_t i = 0; i < kWidth; ++i) sum += double{weights[k][row * kWidth + i]} * double{x[token * kWidth + i]};
          ASSERT_NEAR(double{out[at]}, sum, 1e-4) << "matrix " << k << ", token " << token << ", row " << row;
        }
      }
    }
  }
}

// Depths that share an input, beside a dense matrix; rows that leave a band and a tile unfilled, columns that leave a block so;
// twice, with other inputs.
TEST(CpuBackend, MultiplyWithTernaryMatricesOfSeveralDepths) {
  constexpr size_t kWidth = 37;
  const RandomTernary ternaries[] = {{2, 150, kWidth}, {4, 65, kWidth}, {2, 1300, kWidth}, {1, 1, kWidth}, {3, 16, kWidth}};
  const std::vector<float> dense = random_values(20 * kWidth, 1), bias = random_values(65, 2);
  std::vector<const std::vector<float>*> weights;
  for (const RandomTernary& ternary : ternaries) weights.push_back(&ternary.expected);
  weights.push_back(&dense);
  for (const size_t tokens : {1u, 2u, 17u, 70u}) {
    const std::vector<float> inputs[] = {random_values(tokens * kWidth, tokens), random_values(tokens * kWidth, tokens + 1)};
    const std::vector<float> out = with_any_threads([&](const Device& device) {
      std::vector<std::unique_ptr<DeviceMatrix>> matrices;
      for (const RandomTernary& ternary : ternaries) matrices.push_back(device->upload_matrix(ternary.matrix));
      matrices.push_back(device.matrix(dense, kWidth));
      const DeviceVector biases = device->upload_vector(bias);
      std::vector<float> all;
      for (const std::vector<float>& x : inputs) {
        const RowStorage input = device.rows(kWidth, x);
        std::vector<RowStorage> outputs;
        std::vector<Projection> projections;
        for (const auto& matrix : matrices) outputs.push_back(device.empty(tokens, static_cast<size_t>(matrix->rows())));
        for (size_t k = 0; k < matrices.size(); ++k) {
          projections.push_back({matrices[k].get(), k == 1 ? &biases : nullptr, outputs[k].first(tokens)});
        }
        device->multiply(input.first(tokens), projections);
        for (const RowStorage& output : outputs) {
          const std::vector<float> values = device.values(output);
          all.insert(all.end(), values.begin(), values.end());
        }
      }
      return all;
    });
    size_t at = 0;
    for (const std::vector<float>& x : inputs) {
      for (size_t k = 0; k < weights.size(); ++k) {
        const size_t rows = weights[k]->size() / kWidth;
        double squares = 0.0, errors = 0.0;
        for (size_t token = 0; token < tokens; ++token) {
          for (size_t row = 0; row < rows; ++row, ++at) {
            double sum = k == 1 ? double{bias[row]} : 0.0;
            for (size_t i = 0; i < kWidth; ++i) {
              const double product = double{(*weights[k])[row * kWidth + i]} * double{x[token * kWidth + i]};
              sum += product;
              squares += product * product;
            }
            errors += (sum - double{out[at]}) * (sum - double{out[at]});
          }
        }
        EXPECT_LT(std::sqrt(errors / squares), k + 1 == weights.size() ? 1e-6 : 0.02) << "matrix " << k << ", tokens " << tokens;
      }
    }
  }
}

// The next product reads whole rows: what damages one token must not stay behind in them.
TEST(CpuBackend, WhatIsNoNumberStaysOutOfThePadding) {
  constexpr size_t kWidth = 40, kRows = 33;
  for (int depth = 1; depth <= 4; ++depth) {
    const RandomTernary ternary(depth, kRows, kWidth);
    const Device device(2);
    const auto matrix = device->upload_matrix(ternary.matrix);
    for (const size_t tokens : {1u, 3u, 20u}) {
      std::vector<float> x = random_values(tokens * kWidth, tokens);
      x.back() = NAN;
      const RowStorage input = device.rows(kWidth, x), output = device.empty(tokens, kRows);
      const Projection projections[] = {{matrix.get(), nullptr, output.first(tokens)}};
      device->multiply(input.first(tokens), projections);
      const std::vector<float> values = device.values(output);
      for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(std::isnan(values[i]), i / kRows == tokens - 1) << "depth " << depth;
    }
  }
}

// So many tokens that their activations at depth 1 are more than are made ready at once: each token's outputs are those it has
// alone.
TEST(CpuBackend, MultiplyInPartsOfTheTokens) {
  constexpr size_t kWidth = 4096, kRows = 100;
  const kernels::TernaryKernels& table = *kernels::active_table().ternary;
  const auto& product = table.products[static_cast<size_t>(kernels::TileFormat::kTriples)];
  const size_t kTokens = table.activation_bytes_at_once / (kernels::blocks_of(kWidth) * product.activation_bytes(100)) + 10;
  const RandomTernary ternary(1, kRows, kWidth), other(2, kRows, kWidth);
  const std::vector<float> x = random_values(kTokens * kWidth, 3), bias = random_values(kRows, 4);
  const Device device(2);
  const std::unique_ptr<DeviceMatrix> matrices[] = {device->upload_matrix(ternary.matrix), device->upload_matrix(other.matrix)};
  const DeviceVector biases = device->upload_vector(bias);
  const auto product_of = [&](const std::vector<float>& inputs) {
    const size_t tokens = inputs.size() / kWidth;
    const RowStorage input = device.rows(kWidth, inputs), outputs[] = {device.empty(tokens, kRows), device.empty(tokens, kRows)};
    const Projection projections[] = {{matrices[0].get(), &biases, outputs[0].first(tokens)},
                                      {matrices[1].get(), nullptr, outputs[1].first(tokens)}};
    device->multiply(input.first(tokens), projections);
    return std::array{device.values(outputs[0]), device.values(outputs[1])};
  };
  const auto together = product_of(x);
  const bool exact = table.most_exact_tokens >= kTokens;
  for (size_t token = 0; token < kTokens; ++token) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(token * kWidth);
    const auto alone = product_of({begin, begin + kWidth});
    for (size_t k = 0; k < 2; ++k) {
      double squares = 0.0, errors = 0.0;
      for (size_t row = 0; row < kRows; ++row) {
        const double expected = alone[k][row], error = together[k][token * kRows + row] - expected;
        squares += expected * expected;
        errors += error * error;
      }
      ASSERT_LE(std::sqrt(errors / squares), exact ? 0.0 : 0.02) << "token " << token << ", matrix " << k;
    }
  }
}

TEST(CpuBackend, RmsNormOfEachPart) {
  constexpr size_t kParts = 5, kWidth = 14, kTokens = 300;  // enough for several threads
  const std::vector<float> x = random_values(kTokens * kParts * kWidth, 1), gain = random_values(kWidth, 2);
  const std::vector<float> out = with_any_threads([&](const Device& device) {
    const RowStorage rows = device.rows(kParts * kWidth, x);
    const DeviceVector gains = device->upload_vector(gain);
    device->rms_norm(rows.first(kTokens), gains, 1e-3f, rows.first(kTokens));
    return device.values(rows);
  });
  for (size_t part = 0; part < kTokens * kParts; ++part) {
    double squares = 0.0;
    for (size_t i = 0; i < kWidth; ++i) squares += std::pow(double{x[part * kWidth + i]}, 2);
    for (size_t i = 0; i < kWidth; ++i) {
      const double expected = double{x[part * kWidth + i]} * double{gain[i]} / std::sqrt(squares / double{kWidth} + double{1e-3f});
      ASSERT_NEAR(double{out[part * kWidth + i]}, expected, 1e-5);
    }
  }
}

// Element i of a head and element i + half are a complex number that is multiplied by amplitude·e^(i·position·frequency).
TEST(CpuBackend, RotateIsAComplexProduct) {
  constexpr size_t kHeads = 3, kWidth = 10, kTokens = 600, kHalf = kWidth / 2;
  const RotaryFrequencies frequencies{{1.0f, 0.3f, 0.05f, 0.004f, 0.0001f}, 1.25f};
  const std::vector<float> x = random_values(kTokens * kHeads * kWidth, 1);
  std::vector<TokenPlace> places;
  for (uint32_t i = 0; i < kTokens; ++i) places.push_back({i % 4, i == 0 ? 0 : i * 37 % 1000});
  const std::vector<float> out = with_any_threads([&](const Device& device) {
    const auto table = device->make_rotary_table(frequencies, 1000);
    const RowStorage rows = device.rows(kHeads * kWidth, x);
    device->rotate(rows.first(kTokens), kHeads, *table, places);
    return device.values(rows);
  });
  for (size_t token = 0; token < kTokens; ++token) {
    for (size_t head = 0; head < kHeads; ++head) {
      for (size_t i = 0; i < kHalf; ++i) {
        const size_t at = (token * kHeads + head) * kWidth + i;
        const double angle = places[token].position * double{frequencies.inverse_wavelengths[i]};
        const auto expected = std::complex<double>(double{x[at]}, double{x[at + kHalf]}) * std::polar(1.25, angle);
        const double bound = 8.0 * (angle + 4.0) * 0x1p-24;  // the angle is rounded to float32
        ASSERT_NEAR(double{out[at]}, expected.real(), bound);
        ASSERT_NEAR(double{out[at + kHalf]}, expected.imag(), bound);
      }
    }
  }
}

struct AttendCase {
  uint32_t window;
  CacheType type;
  float softcap;
};

TEST(CpuBackend, AttendSeesItsOwnSequenceUpToItself) {
  constexpr uint32_t kHeads = 6, kShared = 2, kWidth = 14, kSlots = 3, kPositions = 40, kLayers = 2;
  constexpr float kScale = 0.3f;
  std::vector<TokenPlace> places;  // every position of every slot, slots mixed
  for (uint32_t i = 0; i < kSlots * kPositions; ++i) places.push_back({i % kSlots, i / kSlots});
  const size_t tokens = places.size();
  const std::vector<float> queries = random_values(tokens * kHeads * kWidth, 1);
  std::vector<std::vector<float>> keys, values;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    keys.push_back(random_values(tokens * kShared * kWidth, 10 + layer));
    values.push_back(random_values(tokens * kShared * kWidth, 20 + layer));
  }
  for (const AttendCase& test : {AttendCase{0, CacheType::kFloat32, 0.0f},
                                 {1, CacheType::kFloat32, 0.0f},
                                 {5, CacheType::kFloat32, 0.0f},
                                 {16, CacheType::kFloat16, 0.0f},
                                 {40, CacheType::kFloat32, 0.0f},
                                 {1000, CacheType::kFloat16, 3.0f},
                                 {UINT32_MAX, CacheType::kFloat32, 0.0f}}) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      const std::vector<float> out = with_any_threads([&](const Device& device) {
        const auto cache = device->make_cache({kLayers, kShared, kWidth, kSlots, kPositions, test.type});
        for (uint32_t l = 0; l < kLayers; ++l) {
          device->store(*cache, l, device.rows(kShared * kWidth, keys[l]).first(tokens),
                        device.rows(kShared * kWidth, values[l]).first(tokens), places);
        }
        const RowStorage in = device.rows(kHeads * kWidth, queries), result = device.empty(tokens, kHeads * kWidth);
        device->attend(in.first(tokens), *cache, {layer, kHeads, test.window, kScale, test.softcap}, places, result.first(tokens));
        return device.values(result);
      });
      const auto cached = [&](float value) {
        return double{test.type == CacheType::kFloat16 ? float_from_half(half_from_float(value)) : value};
      };
      for (size_t token = 0; token < tokens; ++token) {
        for (uint32_t head = 0; head < kHeads; ++head) {
          const uint32_t shared = head / (kHeads / kShared);
          double total = 0.0, expected[kWidth] = {};
          for (size_t other = 0; other < tokens; ++other) {
            if (places[other].slot != places[token].slot || places[other].position > places[token].position) continue;
            if (test.window != 0 && places[token].position - places[other].position >= test.window) continue;
            double score = 0.0;
            const size_t at = (other * kShared + shared) * kWidth;
            for (uint32_t i = 0; i < kWidth; ++i)
              score += double{queries[(token * kHeads + head) * kWidth + i]} * cached(keys[layer][at + i]);
            score *= double{kScale};
            if (test.softcap > 0.0f) score = double{test.softcap} * std::tanh(score / double{test.softcap});
            total += std::exp(score);
            for (uint32_t i = 0; i < kWidth; ++i) expected[i] += std::exp(score) * cached(values[layer][at + i]);
          }
          for (uint32_t i = 0; i < kWidth; ++i) {
            ASSERT_NEAR(double{out[(token * kHeads + head) * kWidth + i]}, expected[i] / total, 1e-5)
                << "window " << test.window << ", layer " << layer << ", slot " << places[token].slot << ", position "
                << places[token].position << ", head " << head;
          }
        }
      }
    }
  }
}

// In one piece, token by token, and in uneven pieces among other sequences: the same bits, with any number of threads.
TEST(CpuBackend, AttendDoesNotDependOnThePieces) {
  constexpr uint32_t kHeads = 6, kShared = 2, kWidth = 20, kSlots = 2, kPositions = 1100, kFirst = 990;
  const std::vector<float> keys = random_values(kPositions * kSlots * kShared * kWidth, 1),
                           values = random_values(kPositions * kSlots * kShared * kWidth, 2),
                           queries = random_values(kPositions * kSlots * kHeads * kWidth, 3);
  for (const uint32_t window : {0u, 600u}) {
    const auto run = [&](const Device& device, const std::vector<std::vector<TokenPlace>>& pieces) {
      const auto cache = device->make_cache({1, kShared, kWidth, kSlots, kPositions, CacheType::kFloat16});
      std::vector<TokenPlace> all;
      for (uint32_t i = 0; i < kSlots * kPositions; ++i) all.push_back({i / kPositions, i % kPositions});
      device->store(*cache, 0, device.rows(kShared * kWidth, keys).first(all.size()),
                    device.rows(kShared * kWidth, values).first(all.size()), all);
      std::vector<float> out(kSlots * kPositions * kHeads * kWidth);
      for (const std::vector<TokenPlace>& places : pieces) {
        std::vector<float> own;
        for (const TokenPlace place : places) {
          const auto begin = queries.begin() + (place.slot * kPositions + place.position) * kHeads * kWidth;
          own.insert(own.end(), begin, begin + kHeads * kWidth);
        }
        const RowStorage in = device.rows(kHeads * kWidth, own), result = device.empty(places.size(), kHeads * kWidth);
        device->attend(in.first(places.size()), *cache, {0, kHeads, window, 0.3f, 0.0f}, places, result.first(places.size()));
        const std::vector<float> found = device.values(result);
        for (size_t i = 0; i < places.size(); ++i) {
          std::copy_n(found.begin() + static_cast<long>(i * kHeads * kWidth), kHeads * kWidth,
                      out.begin() + (places[i].slot * kPositions + places[i].position) * kHeads * kWidth);
        }
      }
      return out;
    };
    std::vector<std::vector<TokenPlace>> whole(1), single, uneven(1);
    for (uint32_t position = kFirst; position < kPositions; ++position) {
      for (uint32_t slot = 0; slot < kSlots; ++slot) single.push_back({{slot, position}});
      if (uneven.back().size() >= 1 + position % 40) uneven.emplace_back();
      for (uint32_t slot = 0; slot < kSlots; ++slot) uneven.back().push_back({slot, position - slot});
    }
    uneven.push_back({{1, kPositions - 1}});
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      for (uint32_t position = kFirst; position < kPositions; ++position) whole[0].push_back({slot, position});
    }
    const std::vector<float> expected = with_any_threads([&](const Device& device) { return run(device, whole); });
    for (const auto& pieces : {single, uneven}) {
      const std::vector<float> found = with_any_threads([&](const Device& device) { return run(device, pieces); });
      for (const TokenPlace place : whole[0]) {
        for (size_t i = 0; i < kHeads * kWidth; ++i) {
          const size_t at = (place.slot * kPositions + place.position) * kHeads * kWidth + i;
          ASSERT_EQ(std::bit_cast<uint32_t>(found[at]), std::bit_cast<uint32_t>(expected[at]))
              << "slot " << place.slot << ", position " << place.position;
        }
      }
    }
  }
}

TEST(CpuBackend, GateAddGather) {
  constexpr size_t kWidth = 53, kTokens = 400;
  const std::vector<float> gate = random_values(kTokens * kWidth, 1), up = random_values(kTokens * kWidth, 2);
  const std::vector<float> gated = with_any_threads([&](const Device& device) {
    const RowStorage a = device.rows(kWidth, gate), b = device.rows(kWidth, up);
    device->gate(Activation::kSilu, a.first(kTokens), b.first(kTokens), a.first(kTokens));
    return device.values(a);
  });
  const std::vector<float> added = with_any_threads([&](const Device& device) {
    const RowStorage a = device.rows(kWidth, gate), b = device.rows(kWidth, up);
    device->add(a.first(kTokens), b.first(kTokens));
    return device.values(b);
  });
  for (size_t i = 0; i < gated.size(); ++i) {
    ASSERT_NEAR(double{gated[i]}, double{gate[i]} / (1.0 + std::exp(-double{gate[i]})) * double{up[i]}, 1e-5);
    ASSERT_EQ(added[i], gate[i] + up[i]);
  }
  const std::vector<uint32_t> indices{399, 0, 17, 17};
  const std::vector<float> gathered = with_any_threads([&](const Device& device) {
    const RowStorage a = device.rows(kWidth, gate), b = device.empty(4, kWidth);
    device->gather(a.first(kTokens), indices, b.first(4));
    return device.values(b);
  });
  for (size_t i = 0; i < gathered.size(); ++i) ASSERT_EQ(gathered[i], gate[indices[i / kWidth] * kWidth + i % kWidth]);
}

}  // namespace
}  // namespace tritllm
