// Owns a read-only view of a file's bytes. Does not own what they mean.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace tritllm {

// The file stays mapped for the object's lifetime. If another program shortens it meanwhile, touching the lost part raises
// SIGBUS; the command line turns that into an error message and a failed exit (app/main.cpp).
class MappedFile {
 public:
  // Refuses anything but a regular file (a FIFO or device in a model folder would block or never end).
  static MappedFile open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const noexcept { return bytes_; }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  MappedFile(std::filesystem::path path, std::span<const std::byte> bytes) : path_(std::move(path)), bytes_(bytes) {}
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

// Tells the system that these mapped bytes are not needed for now, so that reading a model larger than memory does not fill it.
void release_pages(std::span<const std::byte> mapped) noexcept;

// Checksum of mapped bytes (core/checksum.h), read a piece at a time and released behind it: a file of any size takes no memory.
std::string checksum_and_release(std::span<const std::byte> mapped);

}  // namespace tritllm
