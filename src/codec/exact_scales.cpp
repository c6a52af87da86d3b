#include "codec/exact_scales.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/half.h"

namespace tritllm::codec {
namespace {

constexpr uint32_t kLeastScale = 1;  // bits of the smallest float32
// Wider than all roundings of float32 on the way from a scale to a weight, relative to the weight.
constexpr double kSlack = 0x1p-20;

float rounded(float value, Rounding rounding) noexcept {
  switch (rounding) {
    case Rounding::kNone: return value;
    case Rounding::kHalf: return float_from_half(half_from_float(value));
    case Rounding::kBfloat16: return float_from_bfloat16(bfloat16_from_float(value));
    case Rounding::kHalfThenBfloat16: return float_from_bfloat16(bfloat16_from_float(rounded(value, Rounding::kHalf)));
  }
  return value;
}

// About the numbers that are rounded to `magnitude`: good enough to start a search, and to rule codes out.
struct Edges {
  double low, high;
};

Edges edges_of(float magnitude, Rounding rounding) noexcept {
  const double value = magnitude;
  if (rounding == Rounding::kNone) return {value, value};
  double below = value, above = value;
  if (rounding == Rounding::kHalf) {
    const uint16_t bits = half_from_float(magnitude);
    below = bits == 0 ? 0.0 : float_from_half(static_cast<uint16_t>(bits - 1));
    above = bits >= 0x7bff ? 2 * value : float_from_half(static_cast<uint16_t>(bits + 1));
  } else {
    const uint16_t bits = bfloat16_from_float(magnitude);
    below = bits == 0 ? 0.0 : float_from_bfloat16(static_cast<uint16_t>(bits - 1));
    above = float_from_bfloat16(static_cast<uint16_t>(bits + 1));
  }
  // The rounding to FP16 comes first: it moves a number by 2^-11 of it, or among the smallest by 2^-25, to where BF16's begins.
  const double moved = rounding == Rounding::kHalfThenBfloat16 ? std::max(value * 0x1p-11, 0x1p-25) : 0.0;
  return {std::max(0.0, (below + value) / 2 - moved), (above + value) / 2 + moved};
}

// An FP16 folder holds no group with a larger scale, so that one is taken only where the weights themselves are beyond FP16.
float largest_scale(float largest_magnitude, Rounding rounding) noexcept {
  const bool was_half = rounding == Rounding::kHalf || rounding == Rounding::kHalfThenBfloat16;
  return was_half || largest_magnitude <= kLargestHalf ? kLargestHalf : kLargestWeight;
}

// The least bits from kLeastScale to most + 1 from which on `reached` holds. Searches from `guess` outwards.
template <typename Reached>
uint32_t first_scale(uint32_t guess, uint32_t most, Reached&& reached) {
  uint32_t low = kLeastScale, high = most + 1;  // reached at `high`, unknown at `low`
  guess = std::clamp(guess, kLeastScale, most);
  if (reached(guess)) {
    high = guess;
    for (uint32_t step = 1; high > kLeastScale; step *= 2) {
      const uint32_t next = high - kLeastScale > step ? high - step : kLeastScale;
      if (!reached(next)) {
        low = next + 1;
        break;
      }
      high = next;
    }
  } else {
    low = guess + 1;
    for (uint32_t step = 1; low <= most; step *= 2) {
      const uint32_t next = most - low > step ? low + step : most;
      if (reached(next)) {
        high = next;
        break;
      }
      low = next + 1;
    }
  }
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (reached(middle)) high = middle;
    else low = middle + 1;
  }
  return high;
}

uint32_t bits_near(double scale) noexcept {
  return std::bit_cast<uint32_t>(static_cast<float>(std::min(scale, static_cast<double>(kLargestWeight))));
}

class GroupSearch {
 public:
  GroupSearch(std::span<const float> group, int largest_code, Rounding rounding)
      : largest_code_(largest_code), rounding_(rounding) {
    for (const float weight : group) {
      if (weight != 0.0f) magnitudes_.push_back(std::abs(weight));
    }
    std::sort(magnitudes_.begin(), magnitudes_.end(), std::greater<>());
    magnitudes_.erase(std::unique(magnitudes_.begin(), magnitudes_.end()), magnitudes_.end());
    if (!magnitudes_.empty()) most_scale_ = std::bit_cast<uint32_t>(largest_scale(magnitudes_.front(), rounding));
    for (const float magnitude : magnitudes_) edges_.push_back(edges_of(magnitude, rounding));
  }

  ScaleSet run() const {
    ScaleSet found;
    // Once the largest magnitude has a code, hardly more than one code is left for each of the others.
    for (int code = 1; code <= largest_code_; ++code) {
      if (!may_be(code)) continue;
      ScaleSet scales{range_of(code, 0)};
      if (scales.front().least > scales.front().most) continue;
      for (size_t i = 1; i < magnitudes_.size() && !scales.empty(); ++i) scales = narrowed(scales, i, code);
      found.insert(found.end(), scales.begin(), scales.end());
    }
    return joined(std::move(found));
  }

 private:
  static ScaleSet joined(ScaleSet ranges) {
    std::sort(ranges.begin(), ranges.end(), [](const ScaleRange& a, const ScaleRange& b) { return a.least < b.least; });
    ScaleSet set;
    for (const ScaleRange& range : ranges) {
      if (!set.empty() && range.least <= set.back().most + 1) set.back().most = std::max(set.back().most, range.most);
      else set.push_back(range);
    }
    return set;
  }

  // Whether the other magnitudes are near multiples of a step where the largest one has this code.
  bool may_be(int code) const noexcept {
    for (size_t i = 1; i < magnitudes_.size(); ++i) {
      const double most = edges_[i].high * code * (1 + kSlack) / edges_[0].low;
      const double least = edges_[i].low * code * (1 - kSlack) / edges_[0].high;
      if (std::floor(most) < std::max(1.0, std::ceil(least))) return false;
    }
    return true;
  }

  // The scales with which the code gives magnitude i.
  ScaleRange range_of(int code, size_t i) const {
    const float magnitude = magnitudes_[i];
    const double per_weight = static_cast<double>(largest_code_) / code;
    const auto decoded = [&](uint32_t bits) { return decoded_weight(code, std::bit_cast<float>(bits), largest_code_, rounding_); };
    const uint32_t least =
        first_scale(bits_near(edges_[i].low * per_weight), most_scale_, [&](uint32_t bits) { return decoded(bits) >= magnitude; });
    const uint32_t beyond =
        first_scale(bits_near(edges_[i].high * per_weight), most_scale_, [&](uint32_t bits) { return decoded(bits) > magnitude; });
    return {least, beyond - 1};
  }

  // Those of the scales that give magnitude i too, whose code is at most that of the largest.
  ScaleSet narrowed(const ScaleSet& scales, size_t i, int most_code) const {
    ScaleSet kept;
    for (const ScaleRange& range : scales) {
      const double low = std::bit_cast<float>(range.least), high = std::bit_cast<float>(range.most);
      const int first = std::max(1, static_cast<int>(std::ceil(edges_[i].low * largest_code_ * (1 - kSlack) / high)));
      const double last = std::min<double>(most_code, edges_[i].high * largest_code_ * (1 + kSlack) / low);
      for (int code = first; code <= last; ++code) {
        const ScaleRange other = range_of(code, i);
        const ScaleRange both{std::max(range.least, other.least), std::min(range.most, other.most)};
        if (both.least <= both.most) kept.push_back(both);
      }
    }
    return joined(std::move(kept));
  }

  int largest_code_;
  Rounding rounding_;
  uint32_t most_scale_ = 0;        // its bits
  std::vector<float> magnitudes_;  // descending, each once
  std::vector<Edges> edges_;
};

}  // namespace

float decoded_weight(int code, float scale, int largest_code, Rounding rounding) noexcept {
  return rounded(static_cast<float>(code) * (scale / static_cast<float>(largest_code)), rounding);
}

ScaleSet fitting_scales(std::span<const float> group, int largest_code, Rounding rounding) {
  return GroupSearch(group, largest_code, rounding).run();
}

GroupFit nearest_fit(std::span<const float> group, std::span<const float> scales, int largest_code, Rounding rounding) {
  GroupFit best{.different = group.size() + 1};
  float best_error = 0.0f;
  for (const float scale : scales) {
    if (!(scale > 0.0f)) continue;
    GroupFit fit{.scale = scale};
    float largest_error = -1.0f;
    for (size_t i = 0; i < group.size(); ++i) {
      const float inverse = static_cast<float>(largest_code) / scale, most = static_cast<float>(largest_code);
      const int code = static_cast<int>(std::rint(std::clamp(group[i] * inverse, -most, most)));
      const float decoded = decoded_weight(code, scale, largest_code, rounding);
      if (decoded != group[i]) ++fit.different;
      if (const float error = std::abs(decoded - group[i]); error > largest_error) {
        largest_error = error;
        fit.worst = i;
        fit.stored = group[i];
        fit.nearest = decoded;
      }
    }
    if (fit.different > best.different || (fit.different == best.different && largest_error >= best_error)) continue;
    best = fit;
    best_error = largest_error;
  }
  return best;
}

GroupFit nearest_fit(std::span<const float> group, int largest_code, Rounding rounding) {
  std::vector<float> scales;
  // Scales that give all but one of the magnitudes back.
  for (const float weight : group) {
    std::vector<float> others(group.begin(), group.end());
    std::erase_if(others, [&](float other) { return std::abs(other) == std::abs(weight); });
    if (weight == 0.0f || std::ranges::all_of(others, [](float other) { return other == 0.0f; })) continue;
    for (const ScaleRange& range : fitting_scales(others, largest_code, rounding))
      scales.push_back(std::bit_cast<float>(range.least + (range.most - range.least) / 2));
  }
  float largest = 0.0f;
  for (const float weight : group) largest = std::max(largest, std::abs(weight));
  for (const float weight : group) {
    for (int code = 1; weight != 0.0f && code <= largest_code; ++code) {
      const float scale = std::abs(weight) * (static_cast<float>(largest_code) / static_cast<float>(code));
      if (scale <= largest_scale(largest, rounding)) scales.push_back(scale);
    }
  }
  return nearest_fit(group, scales, largest_code, rounding);
}

}  // namespace tritllm::codec
