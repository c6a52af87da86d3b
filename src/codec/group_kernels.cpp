// The specification of the group operations, one group at a time, in the words of docs/codec.md.
#include "codec/group_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "codec/geometry.h"

namespace tritllm::codec {
namespace {

using Group = std::array<float, kGroupSize>;

// Positions of the candidate scales among the ascending magnitudes.
constexpr std::array<size_t, 4> kCandidates{10, 12, 14, 15};

Group magnitudes_of(const float* weights) noexcept {
  Group magnitudes;
  for (size_t i = 0; i < kGroupSize; ++i) magnitudes[i] = std::fabs(weights[i]);
  return magnitudes;
}

float largest_of(const Group& magnitudes) noexcept { return *std::max_element(magnitudes.begin(), magnitudes.end()); }

// rint(clamp(value, −limit, limit)): adding and taking away 1.5·2^23 leaves a float with no bits below 1, rounded to even.
float round_clamped(float value, float limit) noexcept {
  constexpr float kRounder = 12582912.0f;
  return (std::clamp(value, -limit, limit) + kRounder) - kRounder;
}

// What a squared error counts: the importance, or the emphasis of docs/codec.md where none is known.
Group error_weights_of(const Group& magnitudes, const float* importance) noexcept {
  Group weights;
  if (importance != nullptr) {
    std::copy_n(importance, kGroupSize, weights.begin());
    return weights;
  }
  float energy = 0.0f;
  for (const float a : magnitudes) energy = energy + a * a;
  const float rms = std::sqrt(0.0625f * energy);
  for (size_t i = 0; i < kGroupSize; ++i) weights[i] = std::sqrt(rms + magnitudes[i]);
  return weights;
}

float squared_error(const Group& magnitudes, float scale, float limit) noexcept {
  const float inverse = limit / scale, step = scale / limit;
  float error = 0.0f;
  for (const float a : magnitudes) {
    const float difference = a - round_clamped(a * inverse, limit) * step;
    error = error + difference * difference;
  }
  return error;
}

float weighted_error(const Group& magnitudes, const Group& h, float scale, float limit) noexcept {
  const float inverse = limit / scale, step = scale / limit;
  float error = 0.0f;
  for (size_t i = 0; i < kGroupSize; ++i) {
    const float difference = magnitudes[i] - round_clamped(magnitudes[i] * inverse, limit) * step;
    error = error + (h[i] * difference) * difference;
  }
  return error;
}

const float* importance_of(const float* importance, size_t group) noexcept {
  return importance == nullptr ? nullptr : importance + group * kGroupSize;
}

void magnitudes(const float* weights, size_t groups, float* out) noexcept {
  for (size_t g = 0; g < groups; ++g) out[g] = largest_of(magnitudes_of(weights + g * kGroupSize));
}

void candidate_scales(const float* weights, size_t groups, int largest_code, float* scales) noexcept {
  const auto limit = static_cast<float>(largest_code);
  for (size_t g = 0; g < groups; ++g) {
    const Group unsorted = magnitudes_of(weights + g * kGroupSize);
    Group sorted = unsorted;
    std::sort(sorted.begin(), sorted.end());
    scales[g] = 0.0f;
    float least = INFINITY;
    for (const size_t position : kCandidates) {
      if (sorted[position] < kSmallestScale) continue;
      const float error = squared_error(unsorted, sorted[position], limit);
      if (error < least) {
        least = error;
        scales[g] = sorted[position];
      }
    }
  }
}

void nearest_scale_codes(const float* scales, size_t groups, const float* thresholds, uint8_t* scale_codes) noexcept {
  for (size_t g = 0; g < groups; ++g) {
    uint8_t below = 0;
    for (size_t j = 0; j + 1 < kCodebookSize; ++j) below = static_cast<uint8_t>(below + (scales[g] > thresholds[j] ? 1 : 0));
    scale_codes[g] = below;
  }
}

void best_steps(const float* weights, const float* importance, size_t groups, int largest_code, float* steps,
                float* curvatures) noexcept {
  const auto limit = static_cast<float>(largest_code);
  for (size_t g = 0; g < groups; ++g) {
    const Group magnitudes = magnitudes_of(weights + g * kGroupSize);
    const Group h = error_weights_of(magnitudes, importance_of(importance, g));
    Group codes{}, passing;
    for (size_t i = 0; i < kGroupSize; ++i) passing[i] = magnitudes[i] / 0.5f;
    float a = 0.0f, b = 0.0f, best_gain = 0.0f;
    steps[g] = curvatures[g] = 0.0f;
    while (true) {
      const auto i = static_cast<size_t>(std::max_element(passing.begin(), passing.end()) - passing.begin());
      if (!(passing[i] > 0.0f)) break;
      a = a + h[i] * magnitudes[i];
      b = b + h[i] * (2.0f * codes[i] + 1.0f);
      codes[i] += 1.0f;
      passing[i] = codes[i] < limit ? magnitudes[i] / (codes[i] + 0.5f) : 0.0f;
      const float gain = (a * a) / b;
      if (gain > best_gain) {
        best_gain = gain;
        steps[g] = a / b;
        curvatures[g] = b;
      }
    }
  }
}

void best_scale_codes(const float* weights, const float* importance, size_t groups, int largest_code, const float* codebook,
                      uint8_t* scale_codes) noexcept {
  const auto limit = static_cast<float>(largest_code);
  for (size_t g = 0; g < groups; ++g) {
    const Group magnitudes = magnitudes_of(weights + g * kGroupSize);
    scale_codes[g] = 0;
    if (largest_of(magnitudes) < kSmallestScale) continue;
    const Group h = error_weights_of(magnitudes, importance_of(importance, g));
    float least = INFINITY;
    for (uint8_t scale_code = 0; scale_code < kCodebookSize; ++scale_code) {
      if (codebook[scale_code] == 0.0f) continue;
      const float error = weighted_error(magnitudes, h, codebook[scale_code], limit);
      if (error < least) {
        least = error;
        scale_codes[g] = scale_code;
      }
    }
  }
}

void step_sums(const float* weights, const float* importance, size_t groups, int largest_code, const float* codebook,
               const uint8_t* scale_codes, float* numerators, float* denominators) noexcept {
  const auto limit = static_cast<float>(largest_code);
  for (size_t g = 0; g < groups; ++g) {
    const Group magnitudes = magnitudes_of(weights + g * kGroupSize);
    const Group h = error_weights_of(magnitudes, importance_of(importance, g));
    const float inverse = limit / codebook[scale_codes[g]];
    float numerator = 0.0f, denominator = 0.0f;
    for (size_t i = 0; i < kGroupSize; ++i) {
      const float code = round_clamped(magnitudes[i] * inverse, limit);
      const float weighted = h[i] * code;
      numerator = numerator + weighted * magnitudes[i];
      denominator = denominator + weighted * code;
    }
    numerators[g] = numerator;
    denominators[g] = denominator;
  }
}

void encode(const float* weights, size_t groups, int largest_code, const float* codebook, const uint8_t* scale_codes, int8_t* codes,
            const GroupStats& stats) noexcept {
  const auto limit = static_cast<float>(largest_code);
  for (size_t g = 0; g < groups; ++g, weights += kGroupSize, codes += kGroupSize) {
    const bool zero = largest_of(magnitudes_of(weights)) < kSmallestScale;
    const float scale = codebook[scale_codes[g]];
    const float inverse = zero ? 0.0f : limit / scale, step = scale / limit;
    float weight_energy = 0.0f, error_energy = 0.0f, product = 0.0f, decoded_energy = 0.0f, largest_error = 0.0f, clipped = 0.0f;
    for (size_t i = 0; i < kGroupSize; ++i) {
      const float w = weights[i], ideal = w * inverse, code = round_clamped(ideal, limit);
      const float decoded = code * step, difference = w - decoded;
      codes[i] = static_cast<int8_t>(code);
      weight_energy = weight_energy + w * w;
      error_energy = error_energy + difference * difference;
      product = product + w * decoded;
      decoded_energy = decoded_energy + decoded * decoded;
      largest_error = std::max(largest_error, std::fabs(difference));
      clipped = clipped + (std::fabs(ideal) > limit + 0.5f ? 1.0f : 0.0f);
    }
    stats.weight_energy[g] = weight_energy;
    stats.error_energy[g] = error_energy;
    stats.product[g] = product;
    stats.decoded_energy[g] = decoded_energy;
    stats.largest_error[g] = largest_error;
    stats.clipped[g] = clipped;
  }
}

constexpr GroupKernels kScalar{magnitudes, candidate_scales, nearest_scale_codes, best_steps, best_scale_codes, step_sums, encode};

}  // namespace

const GroupKernels& scalar_group_kernels() noexcept { return kScalar; }

}  // namespace tritllm::codec
