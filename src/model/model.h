// Owns a decoder-only transformer that is ready to run: its weights on a backend, its work space, and the order of operations of a
// forward pass, the same for every family. Does not own tokens' meaning, sampling or scheduling (src/engine).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"
#include "model/model_files.h"

namespace tritllm {

struct ModelLimits {
  uint32_t positions;     // tokens of a sequence, prompt and answer together
  uint32_t batch_tokens;  // tokens of one forward pass
};

// Sees the hidden states, [tokens][hidden], after each layer of a forward pass; waits for the device each time.
using LayerObserver = std::function<void(uint32_t layer, std::span<const float> hidden)>;

class Model {
 public:
  // Takes every tensor of `files` exactly once, and refuses missing, unknown and misshapen ones. The backend outlives the model.
  Model(ModelFiles files, const ModelLimits& limits, Backend& backend);

  const ModelConfig& config() const noexcept { return config_; }
  const ModelLimits& limits() const noexcept { return limits_; }
  Backend& backend() const noexcept { return *backend_; }

  // What computing one token reads of the weights.
  uint64_t weight_bytes_per_token() const noexcept;

  std::unique_ptr<KeyValueCache> make_cache(uint32_t slots, CacheType type) const;

  // Computes the hidden states of tokens[i] at places[i] and puts their keys and values into the cache. Tokens of one sequence
  // stand in order of position, and every earlier position of it is in the cache. At most limits().batch_tokens tokens.
  void forward(std::span<const uint32_t> tokens, std::span<const TokenPlace> places, KeyValueCache& cache,
               const LayerObserver& observer = {});

  // Scores of the next token after some rows of the latest forward(): out [rows.size()][vocabulary].
  void logits(std::span<const uint32_t> rows, std::span<float> out);

 private:
  struct Matrix {
    std::unique_ptr<DeviceMatrix> weights;
    std::unique_ptr<DeviceVector> bias;  // null: none

    Projection into(Rows out) const noexcept { return {weights.get(), bias.get(), out}; }
  };
  struct Layer {
    DeviceVector attention_norm, feed_forward_norm;
    std::unique_ptr<DeviceVector> query_norm, key_norm, after_attention_norm, after_feed_forward_norm;  // null: none
    Matrix query, key, value, output, gate, up, down;
  };
  class Loader;

  void attention(const Layer& layer, uint32_t index, Rows hidden, std::span<const TokenPlace> places, KeyValueCache& cache);
  void feed_forward(const Layer& layer, Rows hidden);
  void allocate_work_space();

  ModelConfig config_;
  ModelLimits limits_;
  Backend* backend_;
  std::shared_ptr<const void> owner_;               // of mapped weights
  std::unique_ptr<DeviceMatrix> embedding_, head_;  // head_ is null where it is tied
  DeviceVector final_norm_;
  std::vector<Layer> layers_;
  std::vector<std::unique_ptr<RotaryTable>> rotary_tables_;
  // Work space: [batch_tokens] rows each, but for the last two, [kLogitRows].
  RowStorage hidden_, normed_, queries_, keys_, values_, attended_, projected_, gate_, up_, chosen_, scores_;
  size_t rows_in_use_ = 0;
};

}  // namespace tritllm
