// Memory for the next page of the cache comes while a page is in use, and for no other.
#include "backend/cpu/spare_page.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "core/page_memory.h"

namespace tritllm {
namespace {

constexpr size_t kPageBytes = 3 * kLargePage;

bool is_resident(uint8_t* begin, size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> state((bytes + page - 1) / page);
  EXPECT_EQ(mincore(begin, bytes, state.data()), 0);
  return std::ranges::all_of(state, [](unsigned char byte) { return (byte & 1) != 0; });
}

bool becomes_resident(uint8_t* begin, size_t bytes) {
  for (int i = 0; i < 1000; ++i) {
    if (is_resident(begin, bytes)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

class SparePageTest : public testing::Test {
 protected:
  SparePageTest() : memory_(4 * kPageBytes) {}
  void SetUp() override {
    PageMemory trial(kLargePage);
    if (!populate(trial.data(), kLargePage)) GTEST_SKIP() << "this system gives memory only when it is written";
  }
  uint8_t* page(size_t index) { return memory_.data() + index * kPageBytes; }

  PageMemory memory_;
};

TEST_F(SparePageTest, ComesWhenThePageBeforeIsInUse) {
  SparePage spare(memory_.data(), kPageBytes, 4);
  spare.use(0);
  EXPECT_TRUE(becomes_resident(page(1), kPageBytes));
  EXPECT_FALSE(is_resident(page(0), kPageBytes));
  EXPECT_FALSE(is_resident(page(2), kPageBytes));
  // Two pages at once, then the last one, which has none after it.
  spare.use(2);
  EXPECT_TRUE(becomes_resident(page(3), kPageBytes));
  EXPECT_FALSE(is_resident(page(2), kPageBytes));
  spare.use(3);
  spare.use(1);
}

TEST_F(SparePageTest, KeepsWhatIsWrittenMeanwhile) {
  SparePage spare(memory_.data(), kPageBytes, 4);
  spare.use(0);
  std::fill_n(page(1), kPageBytes, uint8_t{7});
  EXPECT_TRUE(becomes_resident(page(1), kPageBytes));
  EXPECT_TRUE(std::all_of(page(1), page(2), [](uint8_t byte) { return byte == 7; }));
}

TEST_F(SparePageTest, SmallAndHugePagesHaveNone) {
  for (const size_t bytes : {kLargePage / 2, size_t{256} << 20}) {
    PageMemory memory(2 * bytes);
    SparePage spare(memory.data(), bytes, 2);
    spare.use(0);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(is_resident(memory.data() + bytes, bytes));
  }
}

TEST_F(SparePageTest, EndsWhileMemoryIsOnItsWay) {
  for (int i = 0; i < 20; ++i) {
    PageMemory memory(2 * (size_t{64} << 20));
    SparePage spare(memory.data(), size_t{64} << 20, 2);
    spare.use(0);
    std::this_thread::sleep_for(std::chrono::milliseconds(i % 4));
  }
}

}  // namespace
}  // namespace tritllm
