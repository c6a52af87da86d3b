#include "core/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sstream>
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

struct DescriptorCloser {
  int descriptor;
  ~DescriptorCloser() { ::close(descriptor); }
};

FileKind kind_of_mode(mode_t mode) {
  if (S_ISREG(mode)) return FileKind::kRegular;
  if (S_ISDIR(mode)) return FileKind::kFolder;
  return S_ISLNK(mode) ? FileKind::kLink : FileKind::kOther;
}

}  // namespace

FileKind kind_of(const fs::path& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) return kind_of_mode(info.st_mode);
  if (errno == ENOENT || errno == ENOTDIR) return FileKind::kNothing;
  throw io_error(path.string(), "look at", errno);
}

FileKind kind_of_target(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return kind_of_mode(info.st_mode);
  const int reason = errno;
  if ((reason == ENOENT || reason == ENOTDIR) && kind_of(path) == FileKind::kNothing) return FileKind::kNothing;
  throw io_error(path.string(), kind_of(path) == FileKind::kLink ? "follow the link" : "look at", reason);
}

std::vector<std::string> folder_entries(const fs::path& folder) {
  DIR* const stream = ::opendir(folder.empty() ? "." : folder.c_str());
  if (stream == nullptr) throw io_error(folder.string(), "list the folder", errno);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* const entry = ::readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  const int reason = errno;
  ::closedir(stream);
  if (reason != 0) throw io_error(folder.string(), "list the folder", reason);
  std::sort(names.begin(), names.end());
  return names;
}

OutputFile OutputFile::create_or_open(const fs::path& path) {
  OutputFile file(path, open_or_throw(path, O_RDWR | O_CREAT | O_NOFOLLOW, "open for writing"));
  struct stat info {};
  if (::fstat(file.descriptor_, &info) != 0) throw io_error(path.string(), "look at", errno);
  if (S_ISREG(info.st_mode) && info.st_nlink > 1) {
    throw Error(ErrorCode::kConflict, path.string(), "has a second name (a hard link), whose contents would change too",
                "remove it, or move it away");
  }
  return file;
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
  const bool is_folder = kind_of(path) == FileKind::kFolder;
  const int flags = (is_folder ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT) | O_NOFOLLOW | O_NONBLOCK;
  const int descriptor = open_or_throw(path, flags, "open for locking");
  if (::flock(descriptor, (kind == Kind::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) return FileLock(descriptor);
  const int reason = errno;
  ::close(descriptor);
  if (reason == EWOULDBLOCK) return std::nullopt;
  throw io_error(path.string(), "lock", reason);
}

FileLock FileLock::acquire(const fs::path& path, Kind kind, const fs::path& what) {
  if (auto lock = try_acquire(path, kind)) return std::move(*lock);
  const std::string holders = lock_holders(path);
  throw Error(ErrorCode::kConflict, what.string(),
              fmt::format("another run is at work here{}", holders.empty() ? "" : ": " + holders),
              "wait for it, or choose another output folder");
}

bool FileLock::still_at(const fs::path& path) const {
  struct stat locked {
  }, named{};
  if (::fstat(descriptor_, &locked) != 0) throw io_error(path.string(), "look at", errno);
  if (::lstat(path.c_str(), &named) != 0) {
    if (errno == ENOENT) return false;
    throw io_error(path.string(), "look at", errno);
  }
  return locked.st_dev == named.st_dev && locked.st_ino == named.st_ino;
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileLock::FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

namespace {

// The contents of a file of /proc, whose size is not known before it is read; empty where it cannot be read.
std::string proc_text(const std::string& path) {
  constexpr uint64_t kLargest = uint64_t{1} << 20;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return "";
  const DescriptorCloser closer{descriptor};
  return read_stream(descriptor, kLargest, path);
}

// The number behind `label` at the start of a line, or 0.
uint64_t number_after(const std::string& text, std::string_view label) {
  const size_t at = text.find(label);
  return at == text.npos ? 0 : std::strtoull(text.c_str() + at + label.size(), nullptr, 10);
}

// "process 123 (tritllm), started 2026-11-28 20:30:19 UTC".
std::string process_text(uint64_t process) {
  const std::string stat = proc_text(fmt::format("/proc/{}/stat", process));
  // "PID (NAME) STATE …"; the name may hold parentheses. The 22nd field is the start in ticks since the system's.
  const size_t open = stat.find('('), close = stat.rfind(')');
  if (open == stat.npos || close == stat.npos || close < open) return fmt::format("process {}", process);
  std::string text = fmt::format("process {} ({})", process, stat.substr(open + 1, close - open - 1));
  std::istringstream fields(stat.substr(close + 1));
  std::string field;
  for (int number = 3; number <= 22; ++number) fields >> field;
  const uint64_t boot = number_after(proc_text("/proc/stat"), "btime ");
  const long ticks = ::sysconf(_SC_CLK_TCK);
  if (!fields || boot == 0 || ticks <= 0) return text;
  const auto start = static_cast<std::time_t>(boot + std::strtoull(field.c_str(), nullptr, 10) / static_cast<uint64_t>(ticks));
  std::tm utc{};
  ::gmtime_r(&start, &utc);
  std::array<char, 32> shown{};
  std::strftime(shown.data(), shown.size(), "%Y-%m-%d %H:%M:%S UTC", &utc);
  return text + fmt::format(", started {}", shown.data());
}

}  // namespace

std::string lock_holders(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return "";
  // "1: FLOCK  ADVISORY  WRITE 17228 fe:00:2146323 0 EOF"; a lock that is only waited for has "->" before FLOCK.
  std::istringstream lines(proc_text("/proc/locks"));
  std::string line, text;
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string number, type, advisory, mode, process, file;
    fields >> number >> type >> advisory >> mode >> process >> file;
    unsigned device_major = 0, device_minor = 0;
    unsigned long long inode = 0;
    if (type != "FLOCK" || std::sscanf(file.c_str(), "%x:%x:%llu", &device_major, &device_minor, &inode) != 3) continue;
    if (inode != info.st_ino || device_major != major(info.st_dev) || device_minor != minor(info.st_dev)) continue;
    const uint64_t id = std::strtoull(process.c_str(), nullptr, 10);
    if (id != 0) text += (text.empty() ? "" : "; ") + process_text(id);  // 0: in another container
  }
  return text;
}

std::string read_text_file(const fs::path& path, uint64_t limit) {
  // O_NONBLOCK, so that a FIFO planted in a model folder cannot make the open wait for ever.
  const int descriptor = open_or_throw(path, O_RDONLY | O_NONBLOCK, "open");
  const DescriptorCloser closer{descriptor};
  struct stat info {};
  if (::fstat(descriptor, &info) != 0) throw io_error(path.string(), "read the size", errno);
  if (!S_ISREG(info.st_mode)) throw Error(ErrorCode::kBadInput, path.string(), "expected a regular file");
  if (static_cast<uint64_t>(info.st_size) > limit) {
    throw Error(ErrorCode::kBadInput, path.string(),
                fmt::format("expected at most {} bytes, found {}", limit, static_cast<uint64_t>(info.st_size)));
  }
  return read_stream(descriptor, limit, path.string());
}

std::string read_stream(int descriptor, uint64_t limit, const std::string& where) {
  constexpr size_t kFirstStep = size_t{1} << 16, kLargestStep = size_t{1} << 24;
  struct stat info {};
  const bool is_file = ::fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode);
  // One byte more than is allowed or expected, so that the end is seen without another allocation.
  size_t step = is_file ? static_cast<size_t>(std::min<uint64_t>(static_cast<uint64_t>(info.st_size), limit)) + 1 : kFirstStep;
  std::string text;
  size_t filled = 0;
  for (;;) {
    if (filled == text.size()) {
      text.resize(filled + std::max<size_t>(1, std::min<uint64_t>(step, limit - filled + 1)));
      step = std::clamp(text.size(), kFirstStep, kLargestStep);
    }
    const ssize_t got = ::read(descriptor, text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw io_error(where, "read", errno);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
    if (filled > limit) throw Error(ErrorCode::kBadInput, where, fmt::format("expected at most {} bytes, found more", limit));
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

namespace {

// `asked`: what the caller named, which errors name too.
void create_folders_for(const fs::path& folder, const fs::path& asked) {
  if (folder.empty() || kind_of_target(folder) == FileKind::kFolder) return;
  const fs::path named = folder.filename().empty() ? folder.parent_path() : folder;  // "out/" names "out"
  const fs::path above = named.has_parent_path() ? named.parent_path() : fs::path(".");
  if (above != named) create_folders_for(above, asked);
  if (::mkdir(named.c_str(), 0777) != 0) {
    if (errno != EEXIST) throw io_error(asked.string(), "create the folder", errno);
    if (kind_of_target(named) != FileKind::kFolder) throw io_error(asked.string(), "create the folder", ENOTDIR);
  }
  sync_entry(named);
}

}  // namespace

void create_folders(const fs::path& folder) {
  create_folders_for(folder, folder);
  // A run that was killed may have made the folder and not flushed its entry. A parent that may not be read cannot be flushed.
  const fs::path named = folder.filename().empty() ? folder.parent_path() : folder;
  const fs::path parent = named.has_parent_path() ? named.parent_path() : fs::path(".");
  if (::access(parent.c_str(), R_OK) == 0) sync_entry(named);
}

void restrict_to_owner(const fs::path& path) {
  const mode_t mode = kind_of(path) == FileKind::kFolder ? S_IRWXU : S_IRUSR | S_IWUSR;
  if (::chmod(path.c_str(), mode) != 0) throw io_error(path.string(), "take rights from others", errno);
}

void sync_folder(const fs::path& folder) {
  const fs::path named = folder.empty() ? fs::path(".") : folder;
  const int descriptor = open_or_throw(named, O_RDONLY | O_DIRECTORY, "open the folder");
  const DescriptorCloser closer{descriptor};
  // Some network file systems cannot flush a folder and say EINVAL; nothing more can be done there.
  if (::fsync(descriptor) != 0 && errno != EINVAL) throw io_error(named.string(), "flush the folder to the disk", errno);
}

void sync_entry(const fs::path& path) {
  const fs::path above = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const int descriptor = ::open(above.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // A folder that may be entered but not listed cannot be opened, hence not flushed.
  if (descriptor < 0 && errno == EACCES) return;
  if (descriptor < 0) throw io_error(path.string(), "open the folder above it", errno);
  const DescriptorCloser closer{descriptor};
  if (::fsync(descriptor) != 0 && errno != EINVAL)
    throw io_error(path.string(), "flush its entry in the folder above to the disk", errno);
}

void remove_file(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw io_error(path.string(), "remove", errno);
}

bool same_file(const fs::path& a, const fs::path& b) {
  if (kind_of_target(a) == FileKind::kNothing || kind_of_target(b) == FileKind::kNothing) return false;
  struct stat first {
  }, second{};
  if (::stat(a.c_str(), &first) != 0) throw io_error(a.string(), "look at", errno);
  if (::stat(b.c_str(), &second) != 0) throw io_error(b.string(), "look at", errno);
  return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

uint64_t allocated_bytes(const fs::path& folder) {
  constexpr uint64_t kBlock = 512;  // of st_blocks, whatever the file system's own
  if (kind_of(folder) != FileKind::kFolder) return 0;
  uint64_t bytes = 0;
  for (const std::string& name : folder_entries(folder)) {
    const fs::path path = folder / name;
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) throw io_error(path.string(), "look at", errno);
    if (S_ISREG(info.st_mode)) bytes += static_cast<uint64_t>(info.st_blocks) * kBlock;
    if (S_ISDIR(info.st_mode)) bytes += allocated_bytes(path);
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
