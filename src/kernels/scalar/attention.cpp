// Owns the specification of attention: plain sums in double precision over the positions that a row sees, and only those.
#include "kernels/scalar/attention.h"

#include <algorithm>
#include <cmath>

#include "core/half.h"

namespace tritllm::kernels::scalar {
namespace {

template <CacheType kType>
double cached(const void* elements, size_t index) noexcept {
  if constexpr (kType == CacheType::kFloat32) return double{static_cast<const float*>(elements)[index]};
  else if constexpr (kType == CacheType::kFloat16) return double{float_from_half(static_cast<const uint16_t*>(elements)[index])};
  else if constexpr (kType == CacheType::kFloat8)
    return double{float_from_float8(static_cast<const Float8*>(elements)[index].bits)};
  else return static_cast<double>(static_cast<const int8_t*>(elements)[index]);
}

double scale_of(const uint16_t* scales, size_t position) noexcept {
  return scales == nullptr ? 1.0 : double{float_from_half(scales[position])};
}

template <CacheType kType>
float score(const AttentionTask& task, size_t row, size_t position) noexcept {
  const size_t tile = position / kCacheTile * kCacheTile * task.head_stride + position % kCacheTile;
  double dot = 0.0;
  for (size_t i = 0; i < task.head_stride; ++i) {
    dot += double{task.queries[row * task.head_stride + i]} * cached<kType>(task.keys, tile + i * kCacheTile);
  }
  const auto result = static_cast<float>(dot * scale_of(task.key_scales, position));
  return task.softcap > 0.0f ? task.softcap * std::tanh(result / task.softcap) : result;
}

}  // namespace

template <CacheType kType>
void attend(const AttentionTask& task) noexcept {
  for (size_t row = 0; row < task.rows; ++row) {
    const auto [first, end] = task.seen[row];
    float* const weights = task.scores + row * kScoreStride;
    float largest = -INFINITY;
    for (size_t position = first; position < end; ++position) {
      weights[position] = score<kType>(task, row, position);
      largest = std::max(largest, weights[position]);
    }
    double total = 0.0;
    for (size_t position = first; position < end; ++position) {
      weights[position] = std::exp(weights[position] - largest);
      total += double{weights[position]};
    }
    task.state.largest[row] = largest;
    task.state.totals[row] = static_cast<float>(total);
    for (size_t i = 0; i < task.head_stride; ++i) {
      const size_t strip = i / kCacheTile * task.value_stride;
      double sum = 0.0;
      for (size_t position = first; position < end; ++position) {
        sum += double{weights[position]} * scale_of(task.value_scales, position) *
               cached<kType>(task.values, (strip + position) * kCacheTile + i % kCacheTile);
      }
      task.state.sums[row * task.head_stride + i] = static_cast<float>(sum);
    }
  }
}

template void attend<CacheType::kFloat32>(const AttentionTask& task) noexcept;
template void attend<CacheType::kFloat16>(const AttentionTask& task) noexcept;
template void attend<CacheType::kFloat8>(const AttentionTask& task) noexcept;
template void attend<CacheType::kInt8>(const AttentionTask& task) noexcept;

void merge(const AttentionState& span, size_t rows, size_t head_stride, const AttentionState& into) noexcept {
  for (size_t row = 0; row < rows; ++row) {
    if (span.totals[row] == 0.0f) continue;
    const size_t begin = row * head_stride, end = begin + head_stride;
    if (into.totals[row] == 0.0f) {
      std::copy(span.sums + begin, span.sums + end, into.sums + begin);
      into.largest[row] = span.largest[row];
      into.totals[row] = span.totals[row];
      continue;
    }
    const float largest = std::max(into.largest[row], span.largest[row]);
    const double kept = std::exp(double{into.largest[row]} - double{largest});
    const double added = std::exp(double{span.largest[row]} - double{largest});
    for (size_t i = begin; i < end; ++i) {
      into.sums[i] = static_cast<float>(double{into.sums[i]} * kept + double{span.sums[i]} * added);
    }
    into.totals[row] = static_cast<float>(double{into.totals[row]} * kept + double{span.totals[row]} * added);
    into.largest[row] = largest;
  }
}

}  // namespace tritllm::kernels::scalar
