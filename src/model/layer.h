// Owns one layer of a decoder, which is loaded, run and dropped by itself, and what layers share while they run. Does not own the
// hidden states that pass through, nor embedding and head (model.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"
#include "model/weight_loader.h"

namespace tritllm {

// Is told what passes through a forward pass. Reading the rows waits for the device.
class ForwardObserver {
 public:
  virtual ~ForwardObserver() = default;
  // The linears are about to multiply norm(inputs), or inputs where norm is null. [tokens][columns]
  virtual void before_linears(std::span<const Linear* const> /*linears*/, Rows /*inputs*/, const Norm* /*norm*/) {}
  // The hidden states after a layer, [tokens][hidden].
  virtual void after_layer(uint32_t /*layer*/, Rows /*hidden*/) {}
};

// What every layer of a model needs in order to run. All of it outlives the layers' calls.
class LayerContext {
 public:
  // Room for `batch_tokens` rows; rotary tables for `positions`.
  LayerContext(const ModelConfig& config, uint32_t positions, uint32_t batch_tokens, Backend& backend);

  Backend& backend() const noexcept { return *backend_; }
  const ModelConfig& config() const noexcept { return *config_; }
  const RotaryTable& rotary(const LayerConfig& layer) const noexcept { return *rotary_tables_[layer.rotary_index]; }

  // [batch_tokens] rows each. `projected` is null for families without norms after their blocks.
  std::unique_ptr<RowBuffer> queries, keys, values, attended, gate, up, projected;

 private:
  const ModelConfig* config_;
  Backend* backend_;
  std::vector<std::unique_ptr<RotaryTable>> rotary_tables_;
};

// The four products of a layer, in order. Linears of one stage multiply the same input.
enum class LayerStage : uint8_t { kQueryKeyValue, kOutput, kGateUp, kDown };
inline constexpr LayerStage kLayerStages[] = {LayerStage::kQueryKeyValue, LayerStage::kOutput, LayerStage::kGateUp,
                                              LayerStage::kDown};

class Layer {
 public:
  static Layer load(WeightLoader& weights, uint32_t index);

  // hidden [tokens][hidden size] becomes the layer's output. `cache_layer` is the layer's place in the cache.
  void forward(LayerContext& context, const Step& step, Rows hidden, KeyValueCache& cache, uint32_t cache_layer,
               ForwardObserver* observer = nullptr) const;

  // forward() in four parts, for those who look at what comes between them. A stage reads what the one before it left: kOutput
  // reads context.attended, kDown reads context.gate.
  void run(LayerStage stage, LayerContext& context, const Step& step, Rows hidden, KeyValueCache& cache, uint32_t cache_layer,
           ForwardObserver* observer = nullptr) const;

  uint32_t index() const noexcept { return index_; }
  // In the order in which they are used.
  std::vector<const Linear*> linears() const;
  std::vector<Linear*> linears(LayerStage stage);
  // What the stage's input is normed with before it is multiplied; nothing where it is not.
  std::optional<Norm> norm_before(LayerStage stage, const ModelConfig& config) const noexcept;
  // Whether the stage's output is normed before it is added to the hidden states.
  bool is_normed_after(LayerStage stage) const noexcept;

 private:
  void attend(LayerContext& context, const Step& step, Rows hidden, KeyValueCache& cache, uint32_t cache_layer,
              ForwardObserver* observer) const;
  void gate(LayerContext& context, Rows hidden, ForwardObserver* observer) const;
  // hidden += linear·x. x is normed where there is a norm for it, and so is the product before it is added.
  void add_block(LayerContext& context, const Linear& linear, Rows x, const DeviceVector* norm_before,
                 const DeviceVector* norm_after, Rows hidden, ForwardObserver* observer) const;

  uint32_t index_ = 0;
  std::unique_ptr<DeviceVector> attention_norm_, feed_forward_norm_;
  // Null where the family has none.
  std::unique_ptr<DeviceVector> query_norm_, key_norm_, attention_inner_norm_, feed_forward_inner_norm_, after_attention_norm_,
      after_feed_forward_norm_;
  Linear query_, key_, value_, output_, gate_, up_, down_;
};

}  // namespace tritllm
