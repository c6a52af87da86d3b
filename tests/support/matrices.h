// Owns the matrices that tests quantise: the integer formula of tests/golden/make_golden.py, so that large inputs need not be
// stored, and random weights of several distributions. Does not own what quantising makes of them (quantized.h).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

namespace tritllm {

// The random numbers of one golden matrix; make_golden.py states the formula.
class GoldenField {
 public:
  GoldenField(uint64_t seed, uint64_t columns) : seed_(seed), columns_(columns) {}

  uint64_t hash(uint64_t stream, uint64_t k) const {
    uint64_t z = (seed_ << 40) + (stream << 36) + k + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  double unit(uint64_t stream, uint64_t k) const { return static_cast<double>(hash(stream, k) >> 40) / 16777216.0; }
  double bell(uint64_t k) const {
    const uint64_t bits = hash(0, k);
    const uint64_t sum = (bits & 65535) + (bits >> 16 & 65535) + (bits >> 32 & 65535) + (bits >> 48);
    return (static_cast<double>(sum) - 131070.0) / 32768.0;
  }
  double heavy(uint64_t k) const {
    return bell(k) / (0.125 + unit(1, k)) * (0.5 + unit(2, k / columns_)) * (0.5 + unit(3, k % columns_));
  }

 private:
  uint64_t seed_, columns_;
};

// A matrix of codec_large.json; `kind` is "bell" or "heavy".
inline std::vector<float> large_golden_matrix(std::string_view kind, uint64_t seed, uint64_t rows, uint64_t columns) {
  const GoldenField field(seed, columns);
  std::vector<float> weights(rows * columns);
  for (uint64_t k = 0; k < weights.size(); ++k) {
    if (k / columns % 97 != 5) weights[k] = static_cast<float>(0.02 * (kind == "bell" ? field.bell(k) : field.heavy(k)));
  }
  return weights;
}

enum class Distribution { kGauss, kStudent5, kLaplace, kStudent5Spread };

// Weights of unit-like spread; kStudent5Spread also gives every row and column its own magnitude, as trained matrices have.
inline std::vector<float> random_matrix(Distribution distribution, size_t rows, size_t columns, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> gauss;
  std::student_t_distribution<float> student(5.0f);
  std::exponential_distribution<float> exponential;
  std::vector<float> weights(rows * columns);
  for (float& weight : weights) {
    if (distribution == Distribution::kGauss) weight = gauss(engine);
    else if (distribution == Distribution::kLaplace) weight = exponential(engine) - exponential(engine);
    else weight = student(engine);
  }
  if (distribution != Distribution::kStudent5Spread) return weights;
  std::vector<float> row_scale(rows), column_scale(columns);
  for (float& scale : row_scale) scale = std::exp(0.5f * gauss(engine));
  for (float& scale : column_scale) scale = std::exp(0.5f * gauss(engine));
  for (size_t k = 0; k < weights.size(); ++k) weights[k] *= row_scale[k / columns] * column_scale[k % columns];
  return weights;
}

}  // namespace tritllm
