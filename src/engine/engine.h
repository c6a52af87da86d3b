// Owns the requests that are being answered: a queue, slots for those that are alive, and the step that computes one token for each
// of them together (continuous batching). Does not own loading (language_model.h) nor a thread: whoever calls step() is it.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "engine/generation.h"
#include "engine/sequence.h"
#include "engine/slots.h"
#include "model/model.h"

namespace tritllm {

struct EngineOptions {
  uint32_t slots = 1;  // requests that are computed together, at most ModelLimits::batch_tokens; the others wait
  CacheType cache = CacheType::kFloat16;
};

class Engine {
 public:
  // Model and tokenizer outlive the engine; nobody else uses the model meanwhile.
  Engine(Model& model, const Tokenizer& tokenizer, std::vector<TokenId> end_tokens, const EngineOptions& options);

  // Thread-safe. Refuses an empty prompt, unknown tokens, options out of range, and a prompt that leaves no room in the context.
  RequestId submit(GenerationRequest request, GenerationListener listener);

  // Thread-safe. The request ends with the next step; one that is unknown or has ended is ignored.
  void cancel(RequestId id);

  // Computes the next part of every live request: tokens of answers first, then as much of the prompts as fits the batch. Reports
  // to the listeners. False where there was nothing to do.
  bool step();

  // Steps until every request has ended.
  void run() {
    while (step()) {
    }
  }

  uint64_t cache_bytes() const noexcept { return cache_->bytes(); }

 private:
  // What one sequence contributes to a forward pass.
  struct Share {
    Sequence* sequence;
    uint32_t first_row, count;
  };

  void admit();
  // Like deliver(), notes the first exception of a listener in `failure`.
  void end_cancelled(std::exception_ptr& failure);
  void drop_finished();
  std::vector<Share> plan();
  void add_share(Sequence& sequence, size_t count, std::vector<Share>& shares);
  // Hands out the logits.
  void deliver(const std::vector<Share>& shares, std::exception_ptr& failure);

  Model& model_;
  const Tokenizer& tokenizer_;
  std::vector<TokenId> end_tokens_;
  std::unique_ptr<KeyValueCache> cache_;
  Slots slots_;
  std::vector<std::unique_ptr<Sequence>> live_;
  std::vector<TokenId> tokens_;     // of the forward pass that is being planned
  std::vector<TokenPlace> places_;  // likewise
  std::vector<float> logits_;

  std::mutex mutex_;  // of what follows
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<RequestId> cancelled_;
  RequestId next_id_ = 1;
};

}  // namespace tritllm
