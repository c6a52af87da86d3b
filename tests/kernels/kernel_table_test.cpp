// The choice of the instruction set: listed, forceable, never silently replaced.
#include "kernels/kernel_table.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <optional>
#include <string>

#include "core/error.h"

namespace tritllm::kernels {
namespace {

// TRITLLM_ISA set for a scope.
class ForcedIsa {
 public:
  explicit ForcedIsa(const std::string& name) {
    if (const char* former = ::getenv("TRITLLM_ISA")) former_ = former;
    ::setenv("TRITLLM_ISA", name.c_str(), 1);
  }
  ~ForcedIsa() {
    if (former_) ::setenv("TRITLLM_ISA", former_->c_str(), 1);
    else ::unsetenv("TRITLLM_ISA");
  }
  ForcedIsa(const ForcedIsa&) = delete;
  ForcedIsa& operator=(const ForcedIsa&) = delete;

 private:
  std::optional<std::string> former_;
};

TEST(KernelTable, ScalarIsAlwaysThereAndFirst) {
  ASSERT_FALSE(supported_tables().empty());
  EXPECT_STREQ(supported_tables().front().name, "scalar");
  EXPECT_EQ(supported_tables().front().groups, &codec::scalar_group_kernels());
}

TEST(KernelTable, ListsWhatTheMachineRuns) {
#if defined(__x86_64__)
  EXPECT_EQ(supported_tables().size() > 1, static_cast<bool>(__builtin_cpu_supports("avx2")));
#elif defined(__aarch64__)
  uint64_t features = 0;  // the processor's own register: four bits of it say whether there is the dot product
  asm("mrs %0, ID_AA64ISAR0_EL1" : "=r"(features));
  EXPECT_EQ(supported_tables().size() > 1, (features >> 44 & 15) != 0);
#endif
  for (const KernelTable& table : supported_tables()) EXPECT_STREQ(table.name, table.ternary->name);
}

TEST(KernelTable, TheForcedOneIsUsed) {
  for (const KernelTable& table : supported_tables()) {
    const ForcedIsa forced(table.name);
    EXPECT_STREQ(active_table().name, table.name);
    EXPECT_EQ(active_table().ternary, table.ternary);
  }
}

TEST(KernelTable, WithoutAWishTheFastest) {
  const ForcedIsa none("");
  EXPECT_EQ(active_table().ternary, supported_tables().back().ternary);
}

TEST(KernelTable, UnknownNamesAreRefusedWithTheChoices) {
  for (const char* const name : {"sse9", "AVX2", "avx2 ", "scala", "neon\n"}) {
    const ForcedIsa forced(name);
    try {
      active_table();
      ADD_FAILURE() << "accepted " << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(error.remedy().find("scalar"), std::string::npos) << error.what();
      EXPECT_NE(error.remedy().find(supported_tables().back().name), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace tritllm::kernels
