// Owns the specification of the forward pass's inner loops: plain sums in double precision, one after the other. The other
// instruction sets are tested against these.
#include "kernels/tensor_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/half.h"
#include "kernels/instruction_sets.h"
#include "kernels/scalar/attention.h"

namespace tritllm::kernels::scalar {
namespace {

template <WeightType kType>
float weight_at(const WeightRows& weights, size_t row, size_t column) noexcept {
  const size_t index = row * weights.stride + column;
  if constexpr (kType == WeightType::kFloat32) return static_cast<const float*>(weights.values)[index];
  else if constexpr (kType == WeightType::kFloat16) return float_from_half(static_cast<const uint16_t*>(weights.values)[index]);
  else if constexpr (kType == WeightType::kBFloat16)
    return float_from_bfloat16(static_cast<const uint16_t*>(weights.values)[index]);
  else
    return static_cast<float>(static_cast<const int8_t*>(weights.values)[index]) * weights.steps[weights.scale_codes[index / 16]];
}

template <WeightType kType>
void expand_row(const WeightRows& weights, size_t row, float* out) noexcept {
  for (size_t column = 0; column < weights.stride; ++column) out[column] = weight_at<kType>(weights, row, column);
}

template <WeightType kType>
void multiply(const WeightRows& weights, size_t first_row, size_t rows, const float* x, size_t tokens, float*, float* y,
              size_t y_stride) noexcept {
  for (size_t token = 0; token < tokens; ++token) {
    for (size_t row = 0; row < rows; ++row) {
      double sum = 0.0;
      for (size_t column = 0; column < weights.stride; ++column) {
        sum += double{weight_at<kType>(weights, first_row + row, column)} * double{x[token * weights.stride + column]};
      }
      y[token * y_stride + row] = static_cast<float>(sum);
    }
  }
}

void rms_norm(const float* x, const float* gain, size_t width, float epsilon, float* out) noexcept {
  double squares = 0.0;
  for (size_t i = 0; i < width; ++i) squares += double{x[i]} * double{x[i]};
  const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(width) + double{epsilon});
  for (size_t i = 0; i < width; ++i) out[i] = static_cast<float>(double{x[i]} * inverse) * gain[i];
}

template <Activation kActivation>
float activation_of(float x) noexcept {
  if constexpr (kActivation == Activation::kSilu) return x / (1.0f + std::exp(-x));
  // sqrt(2/π) and the cubic's coefficient: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
  if constexpr (kActivation == Activation::kGeluTanh)
    return 0.5f * x * (1.0f + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
  if constexpr (kActivation == Activation::kGeluErf) return 0.5f * x * (1.0f + std::erf(x * 0.7071067812f));
  if constexpr (kActivation == Activation::kReluSquared) return x < 0.0f ? 0.0f : x * x;
}

template <Activation kActivation>
void gate(const float* gate, const float* up, size_t width, float* out) noexcept {
  for (size_t i = 0; i < width; ++i) out[i] = activation_of<kActivation>(gate[i]) * up[i];
}

constexpr TensorKernels kTable{
    .expand_row = {expand_row<WeightType::kFloat32>, expand_row<WeightType::kFloat16>, expand_row<WeightType::kBFloat16>,
                   expand_row<WeightType::kCodes>},
    .multiply = {multiply<WeightType::kFloat32>, multiply<WeightType::kFloat16>, multiply<WeightType::kBFloat16>,
                 multiply<WeightType::kCodes>},
    .rms_norm = rms_norm,
    .gate = {gate<Activation::kSilu>, gate<Activation::kGeluTanh>, gate<Activation::kGeluErf>, gate<Activation::kReluSquared>},
    .attend = {attend<CacheType::kFloat32>, attend<CacheType::kFloat16>, attend<CacheType::kFloat8>, attend<CacheType::kInt8>},
    .merge = merge,
};

}  // namespace

const TensorKernels& tensor_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::scalar
