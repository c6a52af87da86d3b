#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/checksum.h"
#include "core/error.h"

namespace tritllm {

MappedFile MappedFile::open(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) throw io_error(path.string(), "open", errno);
  struct stat info {};
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(descriptor);
    throw Error(ErrorCode::kBadInput, path.string(), "expected a regular file");
  }
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) {
    ::close(descriptor);
    return MappedFile(path, {});
  }
  void* const start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  const int reason = errno;
  ::close(descriptor);
  if (start == MAP_FAILED) throw io_error(path.string(), "map into memory", reason);
  return MappedFile(path, {static_cast<const std::byte*>(start), size});
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void release_pages(std::span<const std::byte> mapped) noexcept {
  // Only whole pages inside the range: its first and last page may hold a neighbour's bytes that are in use.
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<uintptr_t>(mapped.data()) + page - 1) / page * page;
  const auto last = (reinterpret_cast<uintptr_t>(mapped.data()) + mapped.size()) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

std::string checksum_and_release(std::span<const std::byte> mapped) {
  constexpr size_t kPiece = size_t{8} << 20;
  Checksum checksum;
  while (!mapped.empty()) {
    const std::span<const std::byte> piece = mapped.first(std::min(kPiece, mapped.size()));
    checksum.add(piece);
    release_pages(piece);
    mapped = mapped.subspan(piece.size());
  }
  return checksum.hex();
}

}  // namespace tritllm
