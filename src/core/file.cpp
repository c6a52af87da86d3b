#include "core/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "core/error.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

// Linux caps one read or write near 2 GiB; smaller steps also let a signal through between them.
constexpr size_t kLargestTransfer = size_t{1} << 28;

int open_or_throw(const fs::path& path, int flags, const char* action) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (descriptor < 0) throw io_error(path.string(), action, errno);
  return descriptor;
}

}  // namespace

OutputFile OutputFile::create_or_open(const fs::path& path) {
  return OutputFile(path, open_or_throw(path, O_RDWR | O_CREAT | O_NOFOLLOW, "open for writing"));
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void OutputFile::write_at(uint64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const size_t step = std::min(bytes.size(), kLargestTransfer);
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), step, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw io_error(path_.string(), fmt::format("write {} bytes at offset {}", bytes.size(), offset), errno);
    if (written == 0) throw io_error(path_.string(), fmt::format("write {} bytes at offset {}", bytes.size(), offset), ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
}

void OutputFile::append(std::string_view text) const { write_at(size(), std::as_bytes(std::span(text))); }

void OutputFile::read_at(uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const size_t step = std::min(bytes.size(), kLargestTransfer);
    const ssize_t got = ::pread(descriptor_, bytes.data(), step, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw io_error(path_.string(), fmt::format("read {} bytes at offset {}", bytes.size(), offset), errno);
    if (got == 0) {
      throw Error(ErrorCode::kIo, path_.string(), fmt::format("ends before offset {}", offset + bytes.size()),
                  "another program changed the file; run again");
    }
    bytes = bytes.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
}

uint64_t OutputFile::size() const {
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0) throw io_error(path_.string(), "read the size", errno);
  return static_cast<uint64_t>(info.st_size);
}

void OutputFile::resize(uint64_t bytes) const {
  while (::ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) throw io_error(path_.string(), fmt::format("set the size to {} bytes", bytes), errno);
  }
}

void OutputFile::sync() const {
  if (::fsync(descriptor_) != 0) throw io_error(path_.string(), "flush to the disk", errno);
}

void OutputFile::close() {
  if (descriptor_ < 0) return;
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) throw io_error(path_.string(), "close", errno);
}

std::optional<FileLock> FileLock::try_acquire(const fs::path& path, Kind kind) {
  std::error_code error;
  const int flags = fs::is_directory(path, error) ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT | O_NOFOLLOW;
  const int descriptor = open_or_throw(path, flags, "open for locking");
  if (::flock(descriptor, (kind == Kind::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) return FileLock(descriptor);
  const int reason = errno;
  ::close(descriptor);
  if (reason == EWOULDBLOCK) return std::nullopt;
  throw io_error(path.string(), "lock", reason);
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileLock::FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

std::string read_text_file(const fs::path& path, uint64_t limit) {
  // O_NONBLOCK, so that a FIFO planted in a model folder cannot make the open wait for ever.
  const int descriptor = open_or_throw(path, O_RDONLY | O_NONBLOCK, "open");
  struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  } closer{descriptor};
  struct stat info {};
  if (::fstat(descriptor, &info) != 0) throw io_error(path.string(), "read the size", errno);
  if (!S_ISREG(info.st_mode)) throw Error(ErrorCode::kBadInput, path.string(), "expected a regular file");
  if (static_cast<uint64_t>(info.st_size) > limit) {
    throw Error(ErrorCode::kBadInput, path.string(),
                fmt::format("expected at most {} bytes, found {}", limit, static_cast<uint64_t>(info.st_size)));
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = ::read(descriptor, text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw io_error(path.string(), "read", errno);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  text.resize(filled);
  return text;
}

void write_file_atomically(const fs::path& path, std::string_view contents) {
  fs::path temporary = path;
  temporary += ".partial";
  {
    OutputFile file = OutputFile::create_or_open(temporary);
    file.resize(0);
    file.write_at(0, std::as_bytes(std::span(contents)));
    file.sync();
    file.close();
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) throw io_error(path.string(), "rename the finished file", errno);
  sync_folder(path.parent_path());
}

void create_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw io_error(folder.string(), "create the folder", error.value());
}

void sync_folder(const fs::path& folder) {
  const fs::path named = folder.empty() ? fs::path(".") : folder;
  const int descriptor = open_or_throw(named, O_RDONLY | O_DIRECTORY, "open the folder");
  const int result = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  // Some network file systems cannot flush a folder and say EINVAL; nothing more can be done there.
  if (result != 0 && reason != EINVAL) throw io_error(named.string(), "flush the folder to the disk", reason);
}

namespace {

void rename_or_throw(const fs::path& from, const fs::path& to, const fs::path& named) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw io_error(named.string(), "put the finished folder in place of the former one", errno);
}

// Exchanges two folders; where the file system cannot do that in one step, nothing bears the name for a moment.
void exchange_folders(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) throw io_error(to.string(), "put the finished folder in place of the former one", errno);
  fs::path aside = from;
  aside += ".former";
  remove_tree(aside);
  rename_or_throw(to, aside, to);
  rename_or_throw(from, to, to);
  rename_or_throw(aside, from, to);
}

}  // namespace

void publish_folder(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (fs::exists(to, error)) {
    exchange_folders(from, to);
    sync_folder(to.parent_path());
    remove_tree(from);
  } else if (::rename(from.c_str(), to.c_str()) != 0) {
    throw io_error(to.string(), "rename the finished folder", errno);
  }
  sync_folder(to.parent_path());
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw io_error(path.string(), "remove", error.value());
}

bool same_file(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return fs::equivalent(a, b, error) && !error;
}

uint64_t allocated_bytes(const fs::path& folder) {
  constexpr uint64_t kBlock = 512;  // of st_blocks, whatever the file system's own
  uint64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    struct stat info {};
    if (::lstat(entry->path().c_str(), &info) == 0 && S_ISREG(info.st_mode))
      bytes += static_cast<uint64_t>(info.st_blocks) * kBlock;
  }
  return bytes;
}

uint64_t free_disk_bytes(const fs::path& folder) {
  struct statvfs info {};
  if (::statvfs(folder.c_str(), &info) != 0) throw io_error(folder.string(), "read the free space", errno);
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

void require_free_disk(const fs::path& folder, uint64_t needed, std::string_view remedy) {
  const uint64_t available = free_disk_bytes(folder);
  if (needed <= available) return;
  constexpr uint64_t kGigabyte = 1'000'000'000;
  const auto shown = [needed](uint64_t bytes) {
    if (needed < kGigabyte) return fmt::format("{} bytes", bytes);
    return fmt::format("{:.1f} GB", static_cast<double>(bytes) / static_cast<double>(kGigabyte));
  };
  throw Error(ErrorCode::kIo, folder.string(), fmt::format("{} are needed, {} are free", shown(needed), shown(available)), remedy);
}

}  // namespace tritllm
