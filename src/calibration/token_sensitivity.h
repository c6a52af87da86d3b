// Owns how much the model's output feels an error in what a product gives for each token: one backward pass of the source. Does not
// own what is made of it (calibrator.h).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "calibration/calibration_device.h"
#include "calibration/layer_backward.h"
#include "calibration/streams.h"

namespace tritllm {

// Weights of the tokens of all sequences, one after the other, for each stage of each layer; the mean of each is 1.
struct TokenWeights {
  std::vector<std::vector<float>> of_stage;  // [layers · 4][tokens]
  // Of each linear, [layers · 7]: the mean over tokens of the mean square of the gradient by an output, which the weights are
  // relative to.
  std::vector<double> scales;

  std::span<const float> at(uint32_t layer, LayerStage stage) const noexcept {
    return of_stage[layer * std::size(kLayerStages) + static_cast<size_t>(stage)];
  }
};

// Sees gradients of −log p(label) summed over the tokens of a sequence, where each token's label is drawn from the model's own
// distribution. `first_token` is the sequence's first among the tokens of all.
using OnGradients = std::function<void(uint32_t layer, size_t first_token, const OutputGradients& gradients)>;

inline constexpr uint64_t kLeastStateBytes = uint64_t{1} << 29;

struct SensitivityOptions {
  uint64_t seed = 0;                                // of the labels
  std::function<void()> between_parts = [] {};      // called often; may throw to end the work
  std::span<const std::vector<uint32_t>> labels{};  // [sequences][tokens]; empty: drawn
  // Of the hidden states of all layers that are kept for some sequences at a time. With more of them the layers are loaded less
  // often.
  uint64_t state_bytes = kLeastStateBytes;
};

// Calls on_gradients for each layer of each sequence, the last layer first. Memory: hidden states of a few sequences for all
// layers, the head and one layer in float32.
void walk_backward(const ModelFiles& files, const ModelConfig& config, const TokenSequences& sequences,
                   const SensitivityOptions& options, const CalibrationDevice& device, const OnGradients& on_gradients);

// The mean square of a linear's output gradient for each token, divided by its mean over all tokens, and averaged over the linears
// of a stage: the diagonal of the Fisher information, with independent labels.
TokenWeights token_weights(const ModelFiles& files, const ModelConfig& config, const TokenSequences& sequences,
                           const SensitivityOptions& options, const CalibrationDevice& device);

// Bytes that they take at once, for sequences of up to `longest` tokens and kLeastStateBytes.
uint64_t sensitivity_memory(const ModelConfig& config, uint64_t longest) noexcept;

}  // namespace tritllm
