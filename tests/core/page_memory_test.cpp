// Owns the cases of core/page_memory.h.
#include "core/page_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace tritllm {
namespace {

TEST(PageMemory, IsZeroedAndBeginsAtALargePage) {
  for (const size_t bytes : {size_t{1}, size_t{4096}, kLargePage - 1, kLargePage, kLargePage + 1}) {
    PageMemory memory(bytes);
    ASSERT_EQ(memory.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % kLargePage, 0u);
    EXPECT_TRUE(std::all_of(memory.data(), memory.data() + memory.bytes(), [](uint8_t byte) { return byte == 0; }));
    std::fill_n(memory.data(), memory.bytes(), uint8_t{255});
  }
  EXPECT_EQ(PageMemory(0).data(), nullptr);
}

TEST(PageMemory, Moves) {
  PageMemory first(100);
  first.data()[7] = 42;
  PageMemory second(std::move(first));
  EXPECT_EQ(first.data(), nullptr);
  EXPECT_EQ(second.data()[7], 42);
  PageMemory third(5);
  third = std::move(second);
  EXPECT_EQ(third.data()[7], 42);
}

TEST(PageArena, PiecesAreApartAndOutliveTheArena) {
  std::vector<PageArena::Piece> pieces;
  const std::vector<size_t> sizes{1, 63, 64, 65, 1000, kLargePage, 40 * kLargePage, 30 * kLargePage, 5};
  {
    PageArena arena;
    for (size_t i = 0; i < sizes.size(); ++i) {
      pieces.push_back(arena.take(sizes[i]));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(pieces.back().data) % 64, 0u);
      std::fill_n(pieces.back().data, sizes[i], static_cast<uint8_t>(i + 1));
    }
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    const uint8_t* const begin = pieces[i].data;
    EXPECT_TRUE(std::all_of(begin, begin + sizes[i], [&](uint8_t byte) { return byte == i + 1; })) << "piece " << i;
  }
}

TEST(PageArena, NeighboursShareLargePages) {
  PageArena arena;
  const auto first = arena.take(100), second = arena.take(100);
  EXPECT_EQ(second.data - first.data, 128);
}

}  // namespace
}  // namespace tritllm
