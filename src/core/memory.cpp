#include "core/memory.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "core/file.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kUnlimited = UINT64_MAX;

// The text of a file that the kernel makes; empty where there is none.
std::string kernel_text(const fs::path& path) {
  constexpr uint64_t kLargest = uint64_t{1} << 20;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return "";
  const struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  } closer{descriptor};
  return read_stream(descriptor, kLargest, path.string());
}

std::optional<uint64_t> number(const std::string& text) {
  char* end = nullptr;
  const uint64_t value = std::strtoull(text.c_str(), &end, 10);
  return end == text.c_str() ? std::nullopt : std::optional(value);
}

// The number on the line that begins with `label`.
std::optional<uint64_t> number_of(const std::string& text, std::string_view label) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(label)) return number(line.substr(label.size()));
  }
  return std::nullopt;
}

uint64_t left(uint64_t limit, uint64_t used) { return limit > used ? limit - used : 0; }

uint64_t left_in_machine() {
  const auto kibibytes = number_of(kernel_text("/proc/meminfo"), "MemAvailable:");
  return kibibytes ? *kibibytes * 1024 : kUnlimited;
}

// Of a control group of version 2 (memory.max) or 1 (memory.limit_in_bytes) and all groups above it.
uint64_t left_in_groups() {
  std::istringstream lines(kernel_text("/proc/self/cgroup"));
  uint64_t least = kUnlimited;
  for (std::string line; std::getline(lines, line);) {
    const bool second = line.starts_with("0::/"), first = line.find(":memory:/") != line.npos;
    if (!second && !first) continue;
    const fs::path root = second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const fs::path below = line.substr(line.rfind(":/") + 2);
    for (fs::path group = root / below;; group = group.parent_path()) {
      const auto limit = number(kernel_text(group / (second ? "memory.max" : "memory.limit_in_bytes")));
      const auto used = number(kernel_text(group / (second ? "memory.current" : "memory.usage_in_bytes")));
      if (limit && used) {
        const std::string details = kernel_text(group / "memory.stat");
        const uint64_t files = number_of(details, second ? "file " : "total_cache ").value_or(0);
        const uint64_t shared = number_of(details, second ? "shmem " : "total_shmem ").value_or(0);
        least = std::min(least, left(*limit, left(*used, left(files, shared))));
      }
      if (group == root || group == group.parent_path()) break;
    }
  }
  return least;
}

uint64_t left_in_address_space() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnlimited;
  const auto pages = number(kernel_text("/proc/self/statm"));
  return left(limit.rlim_cur, pages.value_or(0) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)));
}

}  // namespace

uint64_t available_memory() { return std::min({left_in_machine(), left_in_groups(), left_in_address_space()}); }

}  // namespace tritllm
