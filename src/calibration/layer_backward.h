// Owns the backward pass of one layer over one sequence, in float32: from the gradient of its output to that of its input, with
// what the forward pass computes recomputed. On the way it tells the gradient of every linear's output, which is all that
// calibration wants; weights get no gradients. Does not own the loss (token_sensitivity.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "calibration/calibration_device.h"
#include "calibration/host_matrix.h"
#include "codec/group_kernels.h"
#include "core/thread_pool.h"
#include "model/config.h"
#include "model/layer.h"
#include "model/model_files.h"

namespace tritllm {

// What the gradient of a norm's output makes of that of its input x, added to `out`; all [rows][gain.size()].
void add_norm_gradient(std::span<const float> x, std::span<const float> gain, float epsilon, std::span<const float> gradient,
                       std::span<float> out, ThreadPool& pool);

// The linears of a layer in the order of Layer::linears().
inline constexpr size_t kLayerLinears = 7;
// Of the output of each, [tokens][rows].
using OutputGradients = std::array<std::vector<float>, kLayerLinears>;

class LayerBackward {
 public:
  // For sequences of up to `tokens`. Everything outlives it; `files` is copied.
  LayerBackward(const ModelFiles& files, const ModelConfig& config, size_t tokens, const CalibrationDevice& device);

  void load(uint32_t index);

  // input: the hidden states before the layer, [tokens][hidden]. gradient: of the hidden states after it; becomes that before it.
  void run(std::span<const float> input, std::span<float> gradient, OutputGradients& outputs);

 private:
  enum Index : size_t { kQuery, kKey, kValue, kOutput, kGate, kUp, kDown };
  // Of one kind, queries or keys: as the linear gives them, and as they are compared.
  struct Heads {
    std::vector<float> raw, rotated;
  };

  // The output of a linear, [tokens][rows].
  std::vector<float> forward(size_t linear, std::span<const float> x, const std::optional<Norm>& norm = {});
  // Of several linears with the same input.
  void forward(std::span<const size_t> linears, std::span<const float> x, const std::optional<Norm>& norm,
               std::span<std::vector<float>* const> out);
  std::vector<float> backward(size_t linear, std::span<const float> gradient) const;

  Heads heads_of(std::vector<float> raw, size_t tokens, std::span<const float> gain) const;
  // From the gradient of the rotated heads to that of the raw ones.
  std::vector<float> heads_backward(const Heads& heads, size_t tokens, std::span<const float> gain,
                                    std::vector<float> gradient) const;
  // Of [tokens][any number of heads][head width], by the positions 0, 1, …; `back` undoes it.
  void rotate(std::span<float> heads, size_t tokens, bool back) const;
  // [tokens][tokens]: how much each token attends to each other one in a head, and the slope of the soft cap there.
  struct Attention {
    std::vector<float> shares, slopes;
  };
  Attention attention_of(const Heads& queries, const Heads& keys, size_t tokens, size_t head) const;
  std::vector<float> attended(const Heads& queries, const Heads& keys, std::span<const float> values, size_t tokens) const;
  struct AttentionGradients {
    std::vector<float> queries, keys, values;  // of rotated queries and keys
  };
  AttentionGradients attention_backward(const Heads& queries, const Heads& keys, std::span<const float> values, size_t tokens,
                                        std::span<const float> gradient) const;

  // What a gradient of the hidden states makes of that of a block's output, which may be normed before it is added.
  std::vector<float> before_sum(std::span<const float> output, std::span<const float> gain, std::span<const float> gradient) const;
  void through_feed_forward(std::span<const float> middle, std::span<float> gradient, OutputGradients& outputs);
  uint32_t head_of_key(size_t head) const noexcept {
    return static_cast<uint32_t>(head / (config_.heads / config_.key_value_heads));
  }

  ModelFiles files_;
  const ModelConfig& config_;
  const CalibrationDevice device_;
  const codec::GroupKernels& kernels_;
  std::optional<Layer> layer_;
  std::vector<const Linear*> linears_;
  std::array<std::unique_ptr<AlgebraMatrix>, kLayerLinears> matrices_;
  std::vector<float> attention_gain_, feed_forward_gain_, query_gain_, key_gain_, after_attention_gain_, after_feed_forward_gain_;
  std::map<size_t, std::unique_ptr<RowBuffer>> inputs_, outputs_;  // by width
  // [tokens][feed forward], of one sequence after the other: memory that is given back and taken anew is cleared by the system.
  std::vector<float> gate_, up_, activated_, slopes_, gated_, gated_gradient_;
};

}  // namespace tritllm
