// Owns the cases of core/memory.h.
#include "core/memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>

namespace tritllm {
namespace {

TEST(AvailableMemory, IsSomeOfTheMachines) {
  const uint64_t all = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  EXPECT_GT(available_memory(), 0u);
  EXPECT_LE(available_memory(), all);
}

// As `ulimit -v` does it. The limit leaves room above what the process has taken, since the answer itself and a sanitizer need
// some.
TEST(AvailableMemory, StaysBelowALimitOfTheProcess) {
  constexpr uint64_t kRoom = uint64_t{64} << 20;
  uint64_t pages = 0;
  ASSERT_TRUE(std::ifstream("/proc/self/statm") >> pages);
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_AS, &before), 0);
  struct rlimit tight = before;
  tight.rlim_cur = pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) + kRoom;
  ASSERT_EQ(::setrlimit(RLIMIT_AS, &tight), 0);
  const uint64_t room = available_memory();
  ASSERT_EQ(::setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_LE(room, kRoom);
  EXPECT_GT(room, kRoom / 2);
}

}  // namespace
}  // namespace tritllm
