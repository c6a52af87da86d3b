// Owns every write that tritllm makes to a disk, and the small reads. Each write is checked, each failure names the path; whole
// files appear under their name only when complete. Does not own memory-mapped reading (io/mapped_file.h) nor the removal of
// folders (owned_folder.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tritllm {

// What a path names. "Nothing" also where a folder on the way is missing; any other failure to look is an Error.
enum class FileKind { kNothing, kRegular, kFolder, kLink, kOther };
FileKind kind_of(const std::filesystem::path& path);         // a link is a link
FileKind kind_of_target(const std::filesystem::path& path);  // links are followed; one that leads nowhere is an Error

// Names in a folder, sorted, without "." and "..".
std::vector<std::string> folder_entries(const std::filesystem::path& folder);

// A file open for writing at explicit offsets (thread-safe for disjoint ranges) and for reading back.
class OutputFile {
 public:
  // Creates the file, or opens it with its contents kept.
  static OutputFile create_or_open(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write_at(uint64_t offset, std::span<const std::byte> bytes) const;
  void append(std::string_view text) const;
  void read_at(uint64_t offset, std::span<std::byte> bytes) const;
  uint64_t size() const;
  void resize(uint64_t bytes) const;
  // Waits until the contents are on the disk. A failure is final: a second fsync may claim success for lost pages.
  void sync() const;
  void close();
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  OutputFile(std::filesystem::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  std::filesystem::path path_;
  int descriptor_ = -1;
};

// Holds an advisory lock for its lifetime, on a file (which stays behind, empty) or on a folder that exists.
class FileLock {
 public:
  enum class Kind { kShared, kExclusive };
  // Nothing where another process holds the lock.
  static std::optional<FileLock> try_acquire(const std::filesystem::path& path, Kind kind);
  // Throws an Error of kConflict that names `what` and the process that holds the lock.
  static FileLock acquire(const std::filesystem::path& path, Kind kind, const std::filesystem::path& what);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  FileLock(const FileLock&) = delete;

  // Whether the path still names the file or folder that is locked.
  bool still_at(const std::filesystem::path& path) const;

 private:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

// The processes that hold a lock on the file or folder, as "process 123 (tritllm), started 2026-11-28 20:30:19 UTC"; empty where
// this system does not show them.
std::string lock_holders(const std::filesystem::path& path);

// The whole file; refuses anything but a regular file of at most `limit` bytes. A file that grows meanwhile is held to the limit.
std::string read_text_file(const std::filesystem::path& path, uint64_t limit = uint64_t{1} << 30);

// All that a descriptor gives until its end (standard input, a pipe). Stops at the first byte beyond `limit`: an endless input
// costs no more than that. `where` names the input in errors.
std::string read_stream(int descriptor, uint64_t limit, const std::string& where);

// Replaces `path` in one step: temporary name, write, fsync, rename, fsync of the folder.
void write_file_atomically(const std::filesystem::path& path, std::string_view contents);

// Creates the folder and those above it that are missing. The entry of each in the folder above it is on the disk afterwards.
void create_folders(const std::filesystem::path& folder);
// Takes every right to a file or folder of ours away from everybody but its owner.
void restrict_to_owner(const std::filesystem::path& path);
void sync_folder(const std::filesystem::path& folder);
// Waits until the path's own entry in the folder above it is on the disk.
void sync_entry(const std::filesystem::path& path);

// Removes a file or a link, never what the link leads to. Nothing happens where nothing is; a folder is an Error.
void remove_file(const std::filesystem::path& path);

// Whether two paths are one and the same existing file or folder (device and inode).
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b);

// Bytes of disk that the files below a folder take; fewer than their sizes where parts were never written. 0 where there is none.
uint64_t allocated_bytes(const std::filesystem::path& folder);

// Bytes that may still be written to the file system that holds `folder`.
uint64_t free_disk_bytes(const std::filesystem::path& folder);

// Throws an Error with both numbers where fewer than `needed` bytes may still be written there.
void require_free_disk(const std::filesystem::path& folder, uint64_t needed, std::string_view remedy = "free some space");

}  // namespace tritllm
