// Owns large, zeroed memory straight from the system, on large pages where it grants them: reading several streams of weights at
// memory speed is otherwise held back by address translation and by prefetchers that stop at the end of a page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tritllm {

// Large pages are of this size on every machine that the kernels run on.
inline constexpr size_t kLargePage = size_t{2} << 20;

class PageMemory {
 public:
  PageMemory() = default;
  // Throws std::bad_alloc.
  explicit PageMemory(size_t bytes);
  ~PageMemory();
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;

  uint8_t* data() noexcept { return data_; }
  const uint8_t* data() const noexcept { return data_; }
  size_t bytes() const noexcept { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

// Asks the system for memory now instead of when it is first written; what is in it stays. False where the system cannot.
bool populate(uint8_t* begin, size_t bytes) noexcept;

// Pieces of large memory, one behind the other, so that small ones lie on large pages too.
class PageArena {
 public:
  struct Piece {
    std::shared_ptr<PageMemory> owner;
    uint8_t* data = nullptr;  // at a multiple of 64
  };

  // Throws std::bad_alloc.
  Piece take(size_t bytes);

 private:
  std::shared_ptr<PageMemory> chunk_;
  size_t used_ = 0;
};

}  // namespace tritllm
