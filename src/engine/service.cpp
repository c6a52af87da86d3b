#include "engine/service.h"

#include <utility>

#include "core/error.h"

namespace tritllm {

EngineService::EngineService(Model& model, const Tokenizer& tokenizer, std::vector<TokenId> end_tokens,
                             const EngineOptions& options)
    : engine_(model, tokenizer, std::move(end_tokens), options), thread_([this] { run(); }) {}

EngineService::~EngineService() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = woken_ = true;
  }
  engine_.cancel_all();
  changed_.notify_all();
  thread_.join();
}

std::optional<RequestId> EngineService::try_submit(GenerationRequest request, std::shared_ptr<EventSink> sink) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    if (draining_) throw Error(ErrorCode::kUsage, "service", "takes no more requests: it is shutting down");
  }
  const auto id = engine_.try_submit(std::move(request), std::move(sink));
  if (id) wake();
  return id;
}

RequestId EngineService::submit(GenerationRequest request, std::shared_ptr<EventSink> sink) {
  const auto id = try_submit(std::move(request), std::move(sink));
  if (!id) throw Error(ErrorCode::kUsage, "queue", "is full", "try again later");
  return *id;
}

void EngineService::cancel(RequestId id) {
  engine_.cancel(id);
  wake();
}

void EngineService::resume(RequestId id) {
  engine_.resume(id);
  wake();
}

void EngineService::drain() {
  std::unique_lock lock(mutex_);
  draining_ = true;
  changed_.wait(lock, [&] { return failure_ || (idle_ && !woken_ && !engine_.has_requests()); });
}

bool EngineService::failed() const {
  const std::lock_guard lock(mutex_);
  return failure_ != nullptr;
}

void EngineService::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

void EngineService::run() noexcept {
  std::unique_lock lock(mutex_);
  while (true) {
    idle_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return woken_; });
    woken_ = idle_ = false;
    const bool last = stopping_;
    lock.unlock();
    std::exception_ptr failure;
    try {
      engine_.run();
    } catch (...) {
      failure = std::current_exception();
    }
    if (failure) engine_.fail_all(failure);
    lock.lock();
    if (failure) failure_ = failure;
    if (last) return;
  }
}

}  // namespace tritllm
