// The specification of the group operations, one group at a time, in the words of docs/codec.md.
#include "codec/group_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

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

void round_with_feedback(const FeedbackGroup& group, const float* targets, size_t rows, const RoundedGroup& out) noexcept {
  const auto limit = static_cast<float>(group.largest_code);
  const auto add_feedback = [&](Group& target, size_t i, float error) {
    for (size_t j = i + 1; j < kGroupSize; ++j) target[j] = target[j] + error * group.feedback[i * kGroupSize + j];
  };
  for (size_t r = 0; r < rows; ++r, targets += kGroupSize) {
    int8_t* const codes = out.codes + r * kGroupSize;
    float *const decoded = out.decoded + r * kGroupSize, *const errors = out.errors + r * kGroupSize;
    float least = INFINITY;
    // `keep` sees weight, code and decoded value of the rounding.
    const auto round_to = [&](auto&& decode, auto&& keep) {
      Group target;
      std::copy_n(targets, kGroupSize, target.begin());
      float sum = 0.0f;
      for (size_t i = 0; i < kGroupSize; ++i) {
        const auto [code, value] = decode(i, target[i]);
        const float error = target[i] - value;
        sum = sum + group.variances[i] * error * error;
        add_feedback(target, i, error);
        keep(i, code, value, error);
      }
      return sum;
    };
    const auto nothing = [](size_t, float, float, float) {};
    if (out.is_rounded) {
      const auto present = [&](size_t i, float) { return std::pair(0.0f, decoded[i]); };
      least = round_to(present, [&](size_t i, float, float, float error) { errors[i] = error; });
    }
    const auto with_scale = [&](size_t scale_code) {
      const float inverse = limit / group.codebook[scale_code], step = group.codebook[scale_code] / limit;
      return [=](size_t, float target) {
        const float code = round_clamped(target * inverse, limit);
        return std::pair(code, code * step);
      };
    };
    size_t best = kCodebookSize;
    for (size_t scale_code = 0; scale_code < kCodebookSize; ++scale_code) {
      if (group.codebook[scale_code] == 0.0f) continue;
      const float sum = round_to(with_scale(scale_code), nothing);
      if (!(sum < least)) continue;
      least = sum;
      best = scale_code;
    }
    const auto keep_all = [&](size_t i, float code, float value, float error) {
      codes[i] = static_cast<int8_t>(code);
      decoded[i] = value;
      errors[i] = error;
    };
    if (best < kCodebookSize) {
      out.scale_codes[r] = static_cast<uint8_t>(best);
      round_to(with_scale(best), keep_all);
    } else if (!out.is_rounded) {  // a codebook of zeros
      out.scale_codes[r] = 0;
      round_to([](size_t, float) { return std::pair(0.0f, 0.0f); }, keep_all);
    }
  }
}

void add_product(const float* left, size_t left_stride, const float* right, size_t right_stride, size_t inner, float* out,
                 size_t out_stride, size_t rows, size_t columns) noexcept {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t k = 0; k < inner; ++k) {
      const float factor = left[r * left_stride + k];
      for (size_t c = 0; c < columns; ++c) out[r * out_stride + c] = out[r * out_stride + c] + factor * right[k * right_stride + c];
    }
  }
}

constexpr GroupKernels kScalar{magnitudes, candidate_scales, nearest_scale_codes, best_steps, best_scale_codes,
                               step_sums,  encode,           round_with_feedback, add_product};

}  // namespace

const GroupKernels& scalar_group_kernels() noexcept { return kScalar; }

}  // namespace tritllm::codec
