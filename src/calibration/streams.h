// Owns a model that reads the calibration text one product of one layer at a time: the hidden states of all sequences, where it
// stands. Two of them stand side by side while a model is calibrated: the source, and the model that is quantised so far. Does not
// own what is made of the inputs (input_moments.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "model/layer.h"
#include "model/model_files.h"

namespace tritllm {

// Tokens of the calibration text, a sequence each.
using TokenSequences = std::vector<std::vector<uint32_t>>;

class Stream {
 public:
  // `files` is copied: several streams read the same mapped weights. The rest outlives the stream. Memory: (hidden + widest product
  // input) floats for each token.
  Stream(const ModelFiles& files, const ModelConfig& config, const TokenSequences& sequences, Backend& backend);

  // The hidden states before the first layer. Drops the embedding afterwards.
  void embed();
  // The layer that stands at work from now on.
  void load_layer(uint32_t index);

  std::vector<Linear*> linears(LayerStage stage) { return layer_->linears(stage); }
  bool is_normed_after(LayerStage stage) const noexcept { return layer_->is_normed_after(stage); }
  // What the stage's linears multiply, [tokens][columns] of one sequence.
  void read_inputs(LayerStage stage, size_t sequence, std::vector<float>& out);
  size_t input_width(LayerStage stage) const noexcept;
  // [tokens][hidden] of one sequence.
  std::span<const float> hidden(size_t sequence) const noexcept;
  // Puts other weights, [rows][columns], in the place of a linear's.
  void replace(Linear& linear, std::vector<float> weights);
  // Runs the stage for all sequences.
  void advance(LayerStage stage);

 private:
  void begin(size_t sequence);
  Rows write_hidden(size_t sequence);
  std::span<float> hidden_of(size_t sequence) noexcept;
  std::span<float> between_of(size_t sequence, size_t width) noexcept;

  ModelFiles files_;
  const ModelConfig& config_;
  const TokenSequences& sequences_;
  Backend& backend_;
  LayerContext context_;
  std::unique_ptr<KeyValueCache> cache_;
  std::unique_ptr<Step> step_;
  std::unique_ptr<RowBuffer> rows_, normed_;
  std::vector<PageId> pages_;
  std::optional<Layer> layer_;
  std::vector<std::unique_ptr<std::vector<float>>> replaced_;  // read in place by the layer
  std::vector<size_t> first_token_;                            // of each sequence; one more at the end
  std::vector<float> hidden_;                                  // [all tokens][hidden]
  std::vector<float> between_;                                 // [all tokens][width]: inputs of the output or down product
};

}  // namespace tritllm
