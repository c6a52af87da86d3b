// Owns the worker threads and the one way to use them: a loop whose iterations are independent. Does not own the order of
// results: callers write to places of their own and combine them in index order, so that nothing depends on scheduling.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tritllm {

class ThreadPool {
 public:
  // `threads` workers in all, the calling thread among them; 0 takes the machine's number of processors.
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned threads() const noexcept { return static_cast<unsigned>(workers_.size()) + 1; }

  // Calls body(index, worker) for every index below `count`, worker < threads(), and returns when all have ended. The first
  // exception ends the loop early and is thrown here. Not reentrant: body must not call parallel_for of the same pool.
  void parallel_for(size_t count, const std::function<void(size_t index, unsigned worker)>& body);

 private:
  void work(unsigned worker);
  void run_share(unsigned worker);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  const std::function<void(size_t, unsigned)>* body_ = nullptr;
  size_t next_ = 0, count_ = 0;
  unsigned busy_ = 0;
  size_t generation_ = 0;
  bool stopping_ = false;
  std::exception_ptr failure_;
};

}  // namespace tritllm
