// Owns a decoder-only transformer that is ready to run: embedding, layers and head on a backend. Does not own tokens' meaning,
// sampling, scheduling, nor which sequence has which page of the cache (src/engine).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"
#include "model/layer.h"
#include "model/limits.h"
#include "model/model_files.h"

namespace tritllm {

class Model {
 public:
  // Takes every tensor of `files` exactly once, and refuses missing, unknown and misshapen ones. `config` is that of the files. The
  // backend outlives the model. limits() may be smaller than what was asked for (limits.h).
  Model(ModelFiles&& files, ModelConfig config, const ModelLimits& limits, Backend& backend);
  // Reads the config as well.
  Model(ModelFiles&& files, const ModelLimits& limits, Backend& backend)
      : Model(std::move(files), read_model_config(files.config, files.config_place), limits, backend) {}
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const noexcept { return config_; }
  const ModelLimits& limits() const noexcept { return limits_; }
  Backend& backend() const noexcept { return *backend_; }
  std::span<const Layer> layers() const noexcept { return layers_; }

  // Of all matrices, in the device's layout.
  uint64_t weight_bytes() const noexcept;
  // What computing one token reads of the weights.
  uint64_t weight_bytes_per_token() const noexcept;

  // Pages of the longest sequence.
  uint32_t pages_per_sequence() const noexcept;
  uint64_t cache_bytes(uint32_t pages, CacheType type) const;
  std::unique_ptr<KeyValueCache> make_cache(uint32_t pages, CacheType type) const;
  std::unique_ptr<Step> make_step(uint32_t sequences) const;

  // Computes the hidden states of the step's tokens and puts their keys and values into the cache. Every earlier position of their
  // sequences is in the cache, or in the step before them. At most limits().batch_tokens tokens.
  void forward(const Step& step, KeyValueCache& cache, ForwardObserver* observer = nullptr);
  // The same, but returns false after the layer during which `interrupt` became true; then nothing of the step counts.
  bool forward_unless(const std::atomic<bool>& interrupt, const Step& step, KeyValueCache& cache);

  // Scores of the next token after the step's scored rows [first, first + count), count up to limits().logit_rows, of the latest
  // forward(): [count][vocabulary] on the device, valid until the next call.
  Rows logits(const Step& step, size_t first, size_t count);
  // The normed hidden state, from which logits() computes scores, of one scored row of the latest forward(): [1][hidden] on the
  // device, valid until the next call.
  Rows state(const Step& step, size_t row);

 private:
  ModelConfig config_;
  ModelLimits limits_;
  Backend* backend_;
  std::shared_ptr<const void> owner_;  // of mapped weights
  LayerContext context_;
  std::unique_ptr<DeviceMatrix> embedding_, head_;  // head_ is null where it is tied
  std::unique_ptr<DeviceVector> final_norm_;
  std::vector<Layer> layers_;
  std::unique_ptr<RowBuffer> hidden_;           // [batch_tokens][hidden]
  std::unique_ptr<RowBuffer> scored_, scores_;  // [logit_rows][hidden], [logit_rows][vocabulary]
  std::unique_ptr<RowBuffer> state_;            // [1][hidden], once it is asked for
};

}  // namespace tritllm
