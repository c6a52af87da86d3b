// Owns the worker threads and the one way to use them: a loop whose iterations are independent. Does not own the order of
// results: callers write to places of their own and combine them in index order, so that nothing depends on scheduling.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tritllm {

class ThreadPool {
 public:
  // `threads` workers in all, the calling thread among them; 0 takes the machine's number of processors. Throws Error where the
  // system refuses that many.
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned threads() const noexcept { return static_cast<unsigned>(workers_.size()) + 1; }

  // Calls body(index, worker) for every index below `count`, worker < threads(), and returns when all have ended. The first
  // exception ends the loop early and is thrown here. Not reentrant: body must not call parallel_for of the same pool.
  // Neither copies the body nor allocates.
  template <typename Body>
  void parallel_for(size_t count, Body&& body) {
    run(count, nullptr, std::ref(body));
  }
  // The same; each worker that gets an index calls prepare(worker) before its first one.
  template <typename Prepare, typename Body>
  void parallel_for(size_t count, Prepare&& prepare, Body&& body) {
    run(count, std::ref(prepare), std::ref(body));
  }

 private:
  void run(size_t count, const std::function<void(unsigned worker)>& prepare,
           const std::function<void(size_t index, unsigned worker)>& body);
  static constexpr uint32_t kClosed = 1u << 31;

  void work(unsigned worker);
  void stop() noexcept;
  bool enter() noexcept;
  void leave() noexcept;
  void run_share(unsigned worker) noexcept;

  std::vector<std::thread> workers_;
  // Of the loop that is running; written before gate_ opens, read by those who came through it.
  const std::function<void(unsigned)>* prepare_ = nullptr;
  const std::function<void(size_t, unsigned)>* body_ = nullptr;
  size_t count_ = 0;
  std::atomic<size_t> next_{0};
  std::atomic<uint32_t> generation_{0};  // number of loops so far: what idle workers wait for
  std::atomic<uint32_t> gate_{kClosed};  // how many workers take part in the loop, and whether more may
  std::atomic<bool> stopping_{false};
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
};

}  // namespace tritllm
