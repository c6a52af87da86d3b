// Owns sequences that are computed directly, without an engine, each with pages of its own: what evaluation, benchmarks and tests
// read a model by. Does not own sampling or scheduling.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/model.h"

namespace tritllm {

class PlainSequences {
 public:
  // The model outlives the sequences, and nobody else runs it between forward() and logits().
  PlainSequences(Model& model, uint32_t sequences, CacheType type);

  // As Model::forward; `scored`: rows of tokens after which logits are wanted.
  void forward(std::span<const uint32_t> tokens, std::span<const TokenPlace> places, std::span<const uint32_t> scored,
               ForwardObserver* observer = nullptr);
  // Of the scored rows [first, first + count) of the latest forward(): out is [count][vocabulary].
  void logits(size_t first, size_t count, std::span<float> out);

 private:
  Model& model_;
  std::unique_ptr<KeyValueCache> cache_;
  std::unique_ptr<Step> step_;
  std::vector<PageId> pages_;  // [sequences][pages of a sequence], ascending
};

}  // namespace tritllm
