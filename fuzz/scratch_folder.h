// Owns a folder in memory that a fuzz target fills anew for each input. Does not own what is in it.
#pragma once

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace tritllm {

class ScratchFolder {
 public:
  ScratchFolder() {
    std::error_code error;
    const bool in_memory = std::filesystem::is_directory("/dev/shm", error);
    std::string pattern = ((in_memory ? "/dev/shm" : std::filesystem::temp_directory_path()) / "tritllm-fuzz-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void write(const std::string& name, std::string_view contents) const {
    std::ofstream file(path_ / name, std::ios::binary | std::ios::trunc);
    file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  }

 private:
  std::filesystem::path path_;
};

// The input's sections, which the byte 0xff divides: it never occurs in UTF-8.
inline std::vector<std::string_view> sections(std::string_view input) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = input.find('\xff');
    parts.push_back(input.substr(0, end));
    if (end == input.npos) return parts;
    input.remove_prefix(end + 1);
  }
}

}  // namespace tritllm
