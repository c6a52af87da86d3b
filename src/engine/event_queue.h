// Owns the way of events from a service's thread to a thread that waits for them. Does not own a limit: the reader is to keep up.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "engine/generation.h"

namespace tritllm {

// May take the events of several requests.
class EventQueue final : public EventSink {
 public:
  bool accept(GenerationEvent event) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
    }
    arrived_.notify_one();
    return true;
  }

  // The next event; nothing where none comes within this time.
  std::optional<GenerationEvent> pop(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    if (!arrived_.wait_for(lock, time, [&] { return !events_.empty(); })) return std::nullopt;
    GenerationEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<GenerationEvent> events_;
};

}  // namespace tritllm
