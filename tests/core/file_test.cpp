// Owns the cases of core/file.h. Failures of the disk are made for real: folders without room for a name, full devices,
// read-only descriptors; a second process holds the lock.
#include "core/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <limits>
#include <set>

#include "core/error.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

void write_plainly(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

std::string read_plainly(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing thrown";
  return ErrorCode::kUsage;
}

// Runs `action` in a process of its own, which may then change limits or hold locks; the result is its exit status.
int in_child(const std::function<int()>& action) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(action());
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(WriteFileAtomically, ReplacesTheContentsAndLeavesNothingElse) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "a longer first version");
  write_file_atomically(folder / "a", std::string("second\0", 7));
  EXPECT_EQ(read_plainly(folder / "a"), std::string("second\0", 7));
  write_file_atomically(folder / "empty", "");
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"a", "empty"}));
}

TEST(WriteFileAtomically, IgnoresTheLongerRestOfAnInterruptedWrite) {
  const TemporaryFolder folder;
  write_plainly(folder / "a.partial", "what a killed run left behind, longer than what comes now");
  write_file_atomically(folder / "a", "short");
  EXPECT_EQ(read_plainly(folder / "a"), "short");
}

TEST(WriteFileAtomically, FailureKeepsTheFormerContents) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "former");
  const int status = in_child([&] {
    // The limit on a file's size stands in for a full disk: the write fails half way.
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 10;
    try {
      write_file_atomically(folder / "a", std::string(10000, 'x'));
    } catch (const Error& error) {
      return error.code() == ErrorCode::kIo ? 0 : 11;
    }
    return 12;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_plainly(folder / "a"), "former");
}

TEST(WriteFileAtomically, FollowsNoLinkPlantedUnderTheTemporaryName) {
  const TemporaryFolder folder;
  write_plainly(folder / "victim", "precious");
  fs::create_symlink(folder / "victim", folder / "a.partial");
  EXPECT_EQ(code_of([&] { write_file_atomically(folder / "a", "x"); }), ErrorCode::kIo);
  EXPECT_EQ(read_plainly(folder / "victim"), "precious");
}

TEST(WriteFileAtomically, ErrorNamesThePath) {
  const TemporaryFolder folder;
  try {
    write_file_atomically(folder / "no" / "such" / "a", "x");
    FAIL() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find((folder / "no" / "such" / "a").string()), std::string::npos) << error.what();
  }
}

TEST(ReadTextFile, ReadsAllBytesUpToTheLimit) {
  const TemporaryFolder folder;
  const std::string text("a\0\r\n\xff", 5);
  write_plainly(folder / "a", text);
  EXPECT_EQ(read_text_file(folder / "a"), text);
  EXPECT_EQ(read_text_file(folder / "a", 5), text);
  EXPECT_EQ(code_of([&] { read_text_file(folder / "a", 4); }), ErrorCode::kBadInput);
  EXPECT_EQ(code_of([&] { read_text_file(folder / "b"); }), ErrorCode::kIo);
}

TEST(ReadTextFile, RefusesAndNeverWaitsForSpecialFiles) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(code_of([&] { read_text_file(folder / "fifo"); }), ErrorCode::kBadInput);
  EXPECT_EQ(code_of([&] { read_text_file(folder.path()); }), ErrorCode::kBadInput);
  EXPECT_EQ(code_of([] { read_text_file("/dev/zero"); }), ErrorCode::kBadInput);
}

TEST(OutputFile, WritesAtOffsetsAndReadsBack) {
  const TemporaryFolder folder;
  const OutputFile file = OutputFile::create_or_open(folder / "a");
  file.write_at(4, bytes_of("five"));
  file.write_at(0, bytes_of("zero"));
  file.append("more");
  EXPECT_EQ(file.size(), 12u);
  std::string middle(6, ' ');
  file.read_at(3, std::as_writable_bytes(std::span(middle)));
  EXPECT_EQ(middle, "ofivem");
  file.sync();
  EXPECT_EQ(read_plainly(folder / "a"), "zerofivemore");
  file.resize(2);
  EXPECT_EQ(read_plainly(folder / "a"), "ze");
}

TEST(OutputFile, OpeningAgainKeepsTheContents) {
  const TemporaryFolder folder;
  OutputFile::create_or_open(folder / "a").append("first ");
  OutputFile again = OutputFile::create_or_open(folder / "a");
  again.append("second");
  again.close();
  again.close();
  EXPECT_EQ(read_plainly(folder / "a"), "first second");
}

TEST(OutputFile, ReadingBeyondTheEndIsAnError) {
  const TemporaryFolder folder;
  const OutputFile file = OutputFile::create_or_open(folder / "a");
  file.append("abc");
  std::string text(4, ' ');
  EXPECT_EQ(code_of([&] { file.read_at(0, std::as_writable_bytes(std::span(text))); }), ErrorCode::kIo);
}

TEST(OutputFile, AFullDiskIsAnErrorThatNamesIt) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  const OutputFile file = OutputFile::create_or_open("/dev/full");
  try {
    file.write_at(0, bytes_of("x"));
    FAIL() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "/dev/full: cannot write 1 bytes at offset 0: No space left on device");
  }
}

TEST(OutputFile, FollowsNoLink) {
  const TemporaryFolder folder;
  write_plainly(folder / "victim", "precious");
  fs::create_symlink(folder / "victim", folder / "a");
  EXPECT_EQ(code_of([&] { OutputFile::create_or_open(folder / "a"); }), ErrorCode::kIo);
}

TEST(OutputFile, ChangesNoFileThatHasAnotherName) {
  const TemporaryFolder folder;
  write_plainly(folder / "victim", "precious");
  fs::create_hard_link(folder / "victim", folder / "a");
  EXPECT_EQ(code_of([&] { OutputFile::create_or_open(folder / "a"); }), ErrorCode::kConflict);
}

TEST(OutputFile, MovingHandsTheDescriptorOver) {
  const TemporaryFolder folder;
  OutputFile first = OutputFile::create_or_open(folder / "a");
  OutputFile second = std::move(first);
  second.append("x");
  second = OutputFile::create_or_open(folder / "b");
  second.append("y");
  EXPECT_EQ(read_plainly(folder / "a"), "x");
  EXPECT_EQ(read_plainly(folder / "b"), "y");
}

TEST(FileLock, AnotherProcessIsKeptOutUntilTheHolderEnds) {
  const TemporaryFolder folder;
  const auto taken_in_child = [&](FileLock::Kind kind) {
    return in_child([&] { return FileLock::try_acquire(folder / "lock", kind).has_value() ? 1 : 0; }) == 1;
  };
  {
    auto holder = FileLock::try_acquire(folder / "lock", FileLock::Kind::kExclusive);
    ASSERT_TRUE(holder.has_value());
    EXPECT_FALSE(taken_in_child(FileLock::Kind::kExclusive));
    EXPECT_FALSE(taken_in_child(FileLock::Kind::kShared));
    const FileLock moved = std::move(*holder);
    holder.reset();
    EXPECT_FALSE(taken_in_child(FileLock::Kind::kExclusive));
  }
  EXPECT_TRUE(taken_in_child(FileLock::Kind::kExclusive));
  EXPECT_TRUE(fs::exists(folder / "lock"));
}

TEST(FileLock, SharersShareAndKeepAWriterOut) {
  const TemporaryFolder folder;
  const auto first = FileLock::try_acquire(folder / "lock", FileLock::Kind::kShared);
  const auto second = FileLock::try_acquire(folder / "lock", FileLock::Kind::kShared);
  EXPECT_TRUE(first && second);
  EXPECT_FALSE(FileLock::try_acquire(folder / "lock", FileLock::Kind::kExclusive).has_value());
}

TEST(FileLock, TheHolderIsNamed) {
  const TemporaryFolder folder;
  const FileLock lock = FileLock::acquire(folder / "lock", FileLock::Kind::kExclusive, folder.path());
  EXPECT_TRUE(lock.still_at(folder / "lock"));
  if (lock_holders(folder / "lock").empty()) GTEST_SKIP() << "this system shows no locks";
  expect_error(ErrorCode::kConflict, "another run is at work here: process " + std::to_string(::getpid()) + " (",
               [&] { FileLock::acquire(folder / "lock", FileLock::Kind::kShared, folder.path()); });
  EXPECT_NE(lock_holders(folder / "lock").find("), started 20"), std::string::npos);
  fs::rename(folder / "lock", folder / "moved");
  EXPECT_FALSE(lock.still_at(folder / "lock"));
  EXPECT_EQ(lock_holders(folder / "lock"), "");
}

TEST(Kinds, LinksAreLinksUntilTheyAreFollowed) {
  const TemporaryFolder folder;
  write_plainly(folder / "file", "x");
  fs::create_symlink("file", folder / "link");
  fs::create_symlink("nowhere", folder / "dangling");
  fs::create_symlink("loop", folder / "loop");
  EXPECT_EQ(kind_of(folder / "link"), FileKind::kLink);
  EXPECT_EQ(kind_of_target(folder / "link"), FileKind::kRegular);
  EXPECT_EQ(kind_of(folder.path()), FileKind::kFolder);
  EXPECT_EQ(kind_of("/dev/null"), FileKind::kOther);
  EXPECT_EQ(kind_of_target(folder / "nothing"), FileKind::kNothing);
  EXPECT_EQ(kind_of_target(folder / "file" / "below"), FileKind::kNothing);
  expect_error(ErrorCode::kIo, "dangling: cannot follow the link", [&] { kind_of_target(folder / "dangling"); });
  expect_error(ErrorCode::kIo, "loop: cannot follow the link", [&] { kind_of_target(folder / "loop"); });
  EXPECT_EQ(folder_entries(folder.path()), (std::vector<std::string>{"dangling", "file", "link", "loop"}));
}

TEST(ReadStream, StopsAtTheFirstByteBeyondTheLimit) {
  const int zeros = ::open("/dev/zero", O_RDONLY);
  expect_error(ErrorCode::kBadInput, "zeros: expected at most 1000000 bytes", [&] { read_stream(zeros, 1'000'000, "zeros"); });
  ::close(zeros);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], "abc", 3), 3);
  ::close(ends[1]);
  EXPECT_EQ(read_stream(ends[0], 3, "pipe"), "abc");
  ::close(ends[0]);
}

TEST(Folders, CreateRemoveAndCompare) {
  const TemporaryFolder folder;
  create_folders(folder / "a" / "b");
  create_folders(folder / "a" / "b");
  EXPECT_TRUE(fs::is_directory(folder / "a" / "b"));
  write_plainly(folder / "file", "x");
  EXPECT_EQ(code_of([&] { create_folders(folder / "file" / "below"); }), ErrorCode::kIo);

  fs::create_symlink(folder / "a", folder / "link");
  EXPECT_TRUE(same_file(folder / "a" / "b", folder / "link" / ".." / "a" / "b"));
  EXPECT_FALSE(same_file(folder / "a", folder / "file"));
  EXPECT_FALSE(same_file(folder / "missing", folder / "missing"));

  remove_file(folder / "link");
  EXPECT_TRUE(fs::exists(folder / "a" / "b"));
  EXPECT_EQ(code_of([&] { remove_file(folder / "a"); }), ErrorCode::kIo);
  remove_file(folder / "file");
  remove_file(folder / "file");
  EXPECT_FALSE(fs::exists(folder / "file"));

  sync_folder(folder.path());
  EXPECT_EQ(code_of([&] { sync_folder(folder / "missing"); }), ErrorCode::kIo);
  EXPECT_GT(free_disk_bytes(folder.path()), 0u);
  EXPECT_EQ(code_of([&] { free_disk_bytes(folder / "missing"); }), ErrorCode::kIo);
}

TEST(Files, TooSmallADiskIsRefusedWithBothNumbers) {
  const TemporaryFolder folder;
  EXPECT_NO_THROW(require_free_disk(folder.path(), 1));
  expect_error(ErrorCode::kIo, "18446744073.7 GB are needed, ",
               [&] { require_free_disk(folder.path(), std::numeric_limits<uint64_t>::max()); });
  expect_error(ErrorCode::kIo, " GB are free; ask for less",
               [&] { require_free_disk(folder.path(), std::numeric_limits<uint64_t>::max(), "ask for less"); });
}

}  // namespace
}  // namespace tritllm
