// Owns the cases of core/memory.h.
#include "core/memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>

namespace tritllm {
namespace {

TEST(AvailableMemory, IsSomeOfTheMachines) {
  const uint64_t all = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  EXPECT_GT(available_memory(), 0u);
  EXPECT_LE(available_memory(), all);
}

// As `ulimit -v` does it.
TEST(AvailableMemory, StaysBelowALimitOfTheProcess) {
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_AS, &before), 0);
  struct rlimit tight = before;
  tight.rlim_cur = uint64_t{1} << 46;  // sanitizers have tens of terabytes of address space
  ASSERT_EQ(::setrlimit(RLIMIT_AS, &tight), 0);
  EXPECT_LT(available_memory(), uint64_t{1} << 46);
  tight.rlim_cur = 1;
  ASSERT_EQ(::setrlimit(RLIMIT_AS, &tight), 0);
  const uint64_t none = available_memory();
  ASSERT_EQ(::setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_EQ(none, 0u);
}

}  // namespace
}  // namespace tritllm
