// The choice of the instruction set: listed, forceable, never silently replaced.
#include "kernels/kernel_table.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

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

#if defined(__x86_64__)
// What the system says that the processor has.
std::set<std::string> processor_flags() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("flags")) {
  }
  std::istringstream words(line);
  return {std::istream_iterator<std::string>(words), {}};
}
#endif

TEST(KernelTable, ListsWhatTheMachineRuns) {
#if defined(__x86_64__)
  const std::set<std::string> flags = processor_flags();
  const auto has = [&](std::initializer_list<const char*> names) {
    return std::all_of(names.begin(), names.end(), [&](const char* name) { return flags.contains(name); });
  };
  std::vector<std::string> expected{"scalar"}, found;
  if (has({"avx2", "fma", "f16c"})) expected.emplace_back("avx2");
  if (has({"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"})) {
    expected.emplace_back("avx512");
    if (has({"avx512vbmi"})) expected.emplace_back("avx512vbmi");
    if (has({"avx512vbmi", "amx_tile", "amx_bf16", "avx512_bf16"})) expected.emplace_back("amx");
  }
  for (const KernelTable& table : supported_tables()) found.emplace_back(table.name);
  EXPECT_EQ(found, expected);
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
