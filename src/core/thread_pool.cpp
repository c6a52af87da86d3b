#include "core/thread_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/error.h"

namespace tritllm {

namespace {

void pause_briefly() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The loops of a token follow one another within microseconds: sleeping and being woken between them would cost more than the
// waiting. Spinning for long would take the processor from whoever needs it. A pause takes 20 to 140 cycles, so the clock decides.
constexpr std::chrono::microseconds kSpinTime{20};
constexpr int kSpinsBetweenClocks = 16;

template <typename Value>
void wait_while_equal(const std::atomic<Value>& variable, Value value) noexcept {
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int spin = 0; spin < kSpinsBetweenClocks; ++spin) {
      if (variable.load(std::memory_order_acquire) != value) return;
      pause_briefly();
    }
  } while (std::chrono::steady_clock::now() < end);
  variable.wait(value, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(unsigned threads) {
  if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
  workers_.reserve(threads - 1);
  try {
    for (unsigned worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { work(worker); });
  } catch (const std::system_error& error) {
    const size_t started = workers_.size() + 1;
    stop();
    throw Error(ErrorCode::kIo, "options.threads",
                fmt::format("the system refused thread {} of {}: {}", started + 1, threads, error.what()),
                fmt::format("ask for {} or fewer, or raise the limit of processes", started));
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() noexcept {
  stopping_ = true;
  ++generation_;
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(size_t count, const std::function<void(unsigned)>& prepare,
                     const std::function<void(size_t, unsigned)>& body) {
  if (count == 0) return;
  prepare_ = &prepare;
  body_ = &body;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  // A single iteration is not worth waking anyone.
  const bool alone = count == 1 || workers_.empty();
  if (!alone) {
    gate_.store(0, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
  }
  run_share(0);
  if (!alone) {
    // Whoever has not come by now, since other programs hold its processor, is not waited for.
    uint32_t gate = gate_.fetch_or(kClosed, std::memory_order_acq_rel) | kClosed;
    for (; gate != kClosed; gate = gate_.load(std::memory_order_acquire)) wait_while_equal(gate_, gate);
  }
  prepare_ = nullptr;
  body_ = nullptr;
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void ThreadPool::work(unsigned worker) {
  uint32_t seen = 0;
  while (true) {
    wait_while_equal(generation_, seen);
    if (stopping_) return;
    seen = generation_.load(std::memory_order_acquire);
    if (!enter()) continue;
    run_share(worker);
    leave();
  }
}

// Joins the loop that is running, unless it takes nobody any more.
bool ThreadPool::enter() noexcept {
  uint32_t gate = gate_.load(std::memory_order_relaxed);
  do {
    if ((gate & kClosed) != 0) return false;
  } while (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire, std::memory_order_relaxed));
  return true;
}

void ThreadPool::leave() noexcept {
  if (gate_.fetch_sub(1, std::memory_order_acq_rel) == (kClosed | 1)) gate_.notify_one();
}

void ThreadPool::run_share(unsigned worker) noexcept {
  const auto take = [this] { return next_.fetch_add(1, std::memory_order_relaxed); };
  try {
    size_t index = take();
    if (index < count_ && *prepare_) (*prepare_)(worker);
    for (; index < count_; index = take()) (*body_)(index, worker);
  } catch (...) {
    const std::lock_guard lock(failure_mutex_);
    if (!failure_) failure_ = std::current_exception();
    next_.store(count_, std::memory_order_relaxed);
  }
}

}  // namespace tritllm
