#include "backend/cpu/spare_page.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "core/page_memory.h"

namespace tritllm {

namespace {

// Smaller pages are cleared in no time. Larger ones belong to models of unusual shapes, and would take more memory ahead than a
// user expects.
constexpr size_t kSmallestSpare = kLargePage, kLargestSpare = size_t{128} << 20;

// What the thread takes from the cores counts after everything else.
void yield_to_others() noexcept { setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19); }

}  // namespace

SparePage::SparePage(uint8_t* memory, size_t page_bytes, uint32_t pages) noexcept
    : memory_(memory), page_bytes_(page_bytes), pages_(page_bytes >= kSmallestSpare && page_bytes <= kLargestSpare ? pages : 0) {}

void SparePage::note(PageId page) noexcept {
  const std::lock_guard lock(mutex_);
  if (page < used_) return;
  used_ = page + 1;
  if (thread_.joinable()) {
    changed_.notify_one();
  } else if (used_ < pages_) {
    try {
      thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
    } catch (const std::system_error&) {
      // Without a thread the system gives the memory when it is written.
      pages_ = 0;
    }
  }
}

void SparePage::work(const std::stop_token& stop) {
  yield_to_others();
  std::unique_lock lock(mutex_);
  for (uint32_t next = 0; changed_.wait(lock, stop, [&] { return used_ > next; });) {
    next = used_;
    if (next >= pages_) return;
    lock.unlock();
    uint8_t* const begin = memory_ + next * page_bytes_;
    for (size_t at = 0; at < page_bytes_ && !stop.stop_requested(); at += kLargePage) {
      if (!populate(begin + at, std::min(kLargePage, page_bytes_ - at))) return;
    }
    lock.lock();
  }
}

}  // namespace tritllm
