#include "kernels/kernel_table.h"

#include <fmt/format.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/instruction_sets.h"

namespace tritllm::kernels {

#if defined(__x86_64__)
namespace {

// F16C. Clang 14's __builtin_cpu_supports() does not know it.
bool converts_halves() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

}  // namespace
#endif

std::span<const KernelTable> supported_tables() {
  static const std::vector<KernelTable> tables = [] {
    std::vector<KernelTable> found{
        {"scalar", &codec::scalar_group_kernels(), &scalar::tensor_kernels(), &scalar::ternary_kernels()}};
#if defined(__x86_64__)
    // Every processor with AVX2 has FMA and F16C, but a virtual machine may hide them. The tables of AVX-512 use this one's
    // kernels.
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !converts_halves()) return found;
    found.push_back({"avx2", &avx2::group_kernels(), &avx2::tensor_kernels(), &avx2::ternary_kernels()});
    // The first processors with AVX-512 lack VNNI; AVX2 serves them.
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
      found.push_back({"avx512", &avx512::group_kernels(), &avx512::tensor_kernels(), &avx512::ternary_kernels()});
      if (!__builtin_cpu_supports("avx512vbmi")) return found;
      found.push_back({"avx512vbmi", &avx512::group_kernels(), &avx512::tensor_kernels(), &avx512vbmi::ternary_kernels()});
      if (amx::supported()) found.push_back({"amx", &avx512::group_kernels(), &avx512::tensor_kernels(), &amx::ternary_kernels()});
    }
#elif defined(__aarch64__)
    // Every AArch64 processor has NEON, the older ones without the dot product.
    if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) {
      found.push_back({"neon", &neon::group_kernels(), &neon::tensor_kernels(), &neon::ternary_kernels()});
    }
#endif
    return found;
  }();
  return tables;
}

const KernelTable& table_named(std::string_view name) {
  std::string known;
  for (const KernelTable& table : supported_tables()) {
    if (name == table.name) return table;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", table.name);
  }
  throw Error(ErrorCode::kUsage, "TRITLLM_ISA", fmt::format("this machine has no instruction set '{}'", name),
              "choose from " + known);
}

const KernelTable& active_table() {
  const char* const forced = std::getenv("TRITLLM_ISA");
  if (forced != nullptr && *forced != '\0') return table_named(forced);
  return supported_tables().back();
}

}  // namespace tritllm::kernels
