// Owns the requests that are being answered: a queue, the live sequences, and the step that computes one token of each of them
// together (continuous batching). Does not own loading (language_model.h) nor a thread (service.h): whoever calls step() is it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "engine/generation.h"
#include "engine/page_table.h"
#include "engine/sequence.h"
#include "model/model.h"

namespace tritllm {

struct EngineOptions {
  uint32_t slots = 1;  // sequences that are computed together, at most ModelLimits::batch_tokens; further requests wait
  CacheType cache = CacheType::kFloat16;
  uint64_t cache_tokens = 0;     // tokens that the key/value cache holds; 0: the whole context for each slot
  uint32_t queued = UINT32_MAX;  // requests that may wait
  // How long a step may take beyond one token of each answer, for the prompts of others.
  std::chrono::milliseconds step_budget{100};
};

struct EngineMetrics {
  uint32_t queued, live;
  uint32_t pages, pages_used, pages_shared;
  uint64_t prompt_tokens;                                       // computed since the engine began
  uint64_t reused_tokens, generated_tokens, finished_requests;  // of the requests that have ended
  double prompt_tokens_per_second;                              // lately; 0: not known
};

class Engine {
 public:
  // Model and tokenizer outlive the engine; nobody else uses the model meanwhile.
  Engine(Model& model, const Tokenizer& tokenizer, std::vector<TokenId> end_tokens, const EngineOptions& options);

  // Thread-safe. Refuses an empty prompt, unknown tokens, options out of range, and a prompt that leaves no room in the context.
  // Nothing where the queue is full.
  std::optional<RequestId> try_submit(GenerationRequest request, std::shared_ptr<EventSink> sink);
  // The same, but throws where the queue is full.
  RequestId submit(GenerationRequest request, std::shared_ptr<EventSink> sink);

  // Thread-safe; a request that is unknown or has ended is ignored. A cancelled request ends with the next step, and a step that
  // computes nothing but prompts is broken off.
  void cancel(RequestId id);
  void cancel_all();
  // After EventSink::accept() has returned false.
  void resume(RequestId id);
  // Thread-safe: whether a request is queued or live.
  bool has_requests() const;

  // Computes the next part of every live request: tokens of answers first, then as much of the prompts as step_budget allows.
  // Reports to the sinks. False where there was nothing to do: no request, or each one waits for resume().
  bool step();

  // Ends every request with this error, after step() has thrown: the device failed, or memory ran out.
  void fail_all(const std::exception_ptr& failure) noexcept;

  // Steps until every request has ended or is paused.
  void run() {
    while (step()) {
    }
  }

  EngineMetrics metrics() const;
  uint64_t cache_bytes() const noexcept { return cache_->bytes(); }

 private:
  struct Queued {
    RequestId id;
    GenerationRequest request;
    std::shared_ptr<EventSink> sink;
  };
  // The rows of a forward pass that belong to one sequence.
  struct Slice {
    Sequence* sequence;
    uint32_t first_row, count;
  };
  // A row whose logits are wanted.
  struct Scored {
    Sequence* sequence;
    uint32_t position;
  };
  // One forward pass.
  struct Pass {
    std::unique_ptr<Step> step;
    std::unique_ptr<ChosenTokens> chosen;
    std::vector<Slice> slices;
    std::vector<TokenId> tokens;
    std::vector<TokenPlace> places;
    std::vector<PageId> page_lists;  // [slices][pages of a sequence]
    std::vector<uint32_t> scored;    // rows whose logits are wanted
    std::vector<Scored> wanted;      // the same rows by sequence
    size_t prompt_tokens = 0;
    std::chrono::steady_clock::time_point begin;
  };

  void take_orders();
  static void end_queued(const Queued& entry, FinishReason reason, const std::string& error);
  void admit();
  void drop_finished();
  void note_metrics();

  void plan(Pass& pass);
  // Whether an earlier sequence is about to compute the beginning of this one's prompt.
  bool waits_for_another(size_t index) const noexcept;
  void add_slice(Pass& pass, Sequence& sequence, size_t count);
  size_t prompt_room(size_t free, bool beside_answers) const noexcept;
  void want_logits(Pass& pass);
  // False where the pass was interrupted.
  bool forward(Pass& pass, const ChosenTokens* chosen);
  void note_speed(const Pass& pass) noexcept;

  // Notes what the cache holds now, and hands out tokens and logits.
  void deliver(Pass& pass);
  void append_to_cache(const Pass& pass);
  void deliver_block(Pass& pass, size_t first, size_t count);

  // On an asynchronous device a pass in which every token is drawn is launched, and collected while the next one runs.
  bool may_be_collected_later(const Pass& pass) const noexcept;
  void choose_tokens(Pass& pass);
  // Whether nothing but the next tokens of the same sequences is to be computed after this pass.
  bool may_run_ahead(const Pass& pass);
  Pass& launch_after(const Pass& pass);
  void collect(Pass& pass);

  Model& model_;
  const Tokenizer& tokenizer_;
  const std::vector<TokenId> end_tokens_;
  const EngineOptions options_;
  PageTable pages_;
  std::unique_ptr<KeyValueCache> cache_;
  std::vector<std::unique_ptr<Sequence>> live_;
  Pass passes_[2];
  Pass* running_ = nullptr;  // launched and not collected

  std::vector<float> logits_;  // [rows that are scored together][vocabulary], allocated when first needed
  std::vector<DrawSettings> draws_;
  std::vector<uint32_t> drawn_;
  SamplerRoom room_;
  uint64_t computed_prompt_tokens_ = 0, reused_tokens_ = 0, generated_tokens_ = 0, finished_ = 0;
  double token_seconds_ = 0;  // of a pass without prompts
  // What each token of a prompt adds to a pass. A pass beside answers has few of them, so that each costs more. 0: not known.
  double prompt_token_seconds_alone_ = 0, prompt_token_seconds_beside_ = 0;
  size_t prompt_tokens_beside_ = 0;  // of the last such pass

  mutable std::mutex mutex_;  // of what follows
  std::deque<Queued> waiting_;
  std::vector<RequestId> cancelled_, resumed_;
  bool all_cancelled_ = false;
  RequestId next_id_ = 1;
  EngineMetrics metrics_{};
  std::atomic<bool> interrupt_{false};  // a request was cancelled
};

}  // namespace tritllm
