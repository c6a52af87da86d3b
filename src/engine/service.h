// Owns an engine and its one thread: what a server, Python and the command line hand requests to. Does not own the model.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/language_model.h"

namespace tritllm {

class EngineService {
 public:
  // Model and tokenizer outlive the service; nobody else uses the model meanwhile.
  EngineService(Model& model, const Tokenizer& tokenizer, std::vector<TokenId> end_tokens, const EngineOptions& options);
  EngineService(LanguageModel& model, const EngineOptions& options)
      : EngineService(model.model(), model.tokenizer(), model.defaults().end_tokens, options) {}
  // Cancels live and queued requests, and waits for the thread.
  ~EngineService();
  EngineService(const EngineService&) = delete;
  EngineService& operator=(const EngineService&) = delete;

  // All are thread-safe, and none but drain() waits for a step.
  // Refuses what Engine::try_submit() refuses, and every request after drain() or the engine's failure. Nothing where the queue is
  // full. Events come from the service's thread.
  std::optional<RequestId> try_submit(GenerationRequest request, std::shared_ptr<EventSink> sink);
  void cancel(RequestId id);
  void resume(RequestId id);
  EngineMetrics metrics() const { return engine_.metrics(); }
  uint64_t cache_bytes() const noexcept { return engine_.cache_bytes(); }
  // The same as try_submit(), but throws where the queue is full.
  RequestId submit(GenerationRequest request, std::shared_ptr<EventSink> sink);

  // Refuses new requests, and returns when the last one has ended.
  // Whether the engine has failed: it takes no more requests.
  bool failed() const;
  void drain();

 private:
  void run() noexcept;
  void wake();

  Engine engine_;
  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  bool woken_ = false, draining_ = false, stopping_ = false, idle_ = true;
  std::exception_ptr failure_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace tritllm
