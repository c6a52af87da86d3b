#include "core/page_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

namespace tritllm {

namespace {

constexpr size_t kChunk = 32 * kLargePage, kPieceAlignment = 64;
const auto kSmallPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

constexpr size_t round_up(size_t value, size_t multiple) noexcept { return (value + multiple - 1) / multiple * multiple; }

// Beginning at a multiple of kLargePage: what the system maps may begin anywhere.
uint8_t* map_aligned(size_t bytes) {
  const size_t room = bytes + kLargePage;
  void* const mapped = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  auto* const begin = static_cast<uint8_t*>(mapped);
  const size_t before = round_up(reinterpret_cast<uintptr_t>(begin), kLargePage) - reinterpret_cast<uintptr_t>(begin);
  if (before != 0) munmap(begin, before);
  munmap(begin + before + bytes, kLargePage - before);
  return begin + before;
}

}  // namespace

PageMemory::PageMemory(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const size_t mapped = round_up(bytes, kLargePage);
  data_ = map_aligned(mapped);
  // Only a hint. Small allocations stay on small pages, which waste less.
  if (bytes >= kLargePage) madvise(data_, mapped, MADV_HUGEPAGE);
}

PageMemory::~PageMemory() {
  if (data_ != nullptr) munmap(data_, round_up(bytes_, kLargePage));
}

PageMemory::PageMemory(PageMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

PageMemory& PageMemory::operator=(PageMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

bool populate(uint8_t* begin, size_t bytes) noexcept {
#ifdef MADV_POPULATE_WRITE
  const auto first = reinterpret_cast<uintptr_t>(begin) / kSmallPage * kSmallPage;
  const size_t length = round_up(reinterpret_cast<uintptr_t>(begin) + bytes, kSmallPage) - first;
  return madvise(reinterpret_cast<void*>(first), length, MADV_POPULATE_WRITE) == 0;
#else
  static_cast<void>(begin), static_cast<void>(bytes);
  return false;
#endif
}

PageArena::Piece PageArena::take(size_t bytes) {
  bytes = round_up(bytes, kPieceAlignment);
  if (chunk_ == nullptr || chunk_->bytes() - used_ < bytes) {
    chunk_ = std::make_shared<PageMemory>(std::max(bytes, kChunk));
    used_ = 0;
  }
  uint8_t* const data = chunk_->data() + used_;
  used_ += bytes;
  return {chunk_, data};
}

}  // namespace tritllm
