// Owns the thread that allocates physical memory for the cache's next page while the current ones are filled. A page is tens of
// megabytes, which the system clears on first touch; without this thread the first token of a new sequence waits for that.
//
// Pages are used in ascending order until all have been used once (engine/page_table.cpp takes the one that was used longest ago,
// the lowest of those that never were).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>

#include "backend/backend.h"

namespace tritllm {

class SparePage {
 public:
  // `pages` pages of `page_bytes` each from `memory` on, of which none has been written yet.
  SparePage(uint8_t* memory, size_t page_bytes, uint32_t pages) noexcept;

  // Something is about to be written to a page. Any thread may call it.
  void use(PageId page) noexcept {
    if (page >= used_.load(std::memory_order_relaxed)) note(page);
  }

 private:
  void note(PageId page) noexcept;
  void work(const std::stop_token& stop);

  uint8_t* memory_;
  size_t page_bytes_;
  uint32_t pages_;
  std::atomic<uint32_t> used_ = 0;  // one more than the highest page in use
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::jthread thread_;  // from the first use on; the last member, so that it ends first
};

}  // namespace tritllm
