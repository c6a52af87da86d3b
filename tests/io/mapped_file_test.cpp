// Views of files.
#include "io/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "support/expect_error.h"
#include "support/model_folder.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {

std::string text_of(const MappedFile& file) { return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}; }

TEST(MappedFile, ShowsTheBytes) {
  const TemporaryFolder folder;
  const std::string text("a\0b\xff", 4);
  write_plainly(folder / "a", text);
  write_plainly(folder / "empty", "");
  const MappedFile file = MappedFile::open(folder / "a");
  EXPECT_EQ(text_of(file), text);
  EXPECT_EQ(file.path(), folder / "a");
  EXPECT_TRUE(MappedFile::open(folder / "empty").bytes().empty());
}

TEST(MappedFile, RefusesWhatIsNoRegularFileAndNeverWaits) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  expect_error(ErrorCode::kBadInput, "fifo", [&] { MappedFile::open(folder / "fifo"); });
  expect_error(ErrorCode::kBadInput, "regular file", [&] { MappedFile::open(folder.path()); });
  expect_error(ErrorCode::kBadInput, "regular file", [] { MappedFile::open("/dev/zero"); });
  expect_error(ErrorCode::kIo, "missing", [&] { MappedFile::open(folder / "missing"); });
}

TEST(MappedFile, MovingKeepsTheView) {
  const TemporaryFolder folder;
  write_plainly(folder / "a", "first");
  write_plainly(folder / "b", "second");
  MappedFile first = MappedFile::open(folder / "a");
  const std::byte* const start = first.bytes().data();
  MappedFile second = std::move(first);
  EXPECT_EQ(second.bytes().data(), start);
  second = MappedFile::open(folder / "b");
  EXPECT_EQ(text_of(second), "second");
}

TEST(ReleasePages, KeepsTheContentsWhateverTheRange) {
  const TemporaryFolder folder;
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::string text(3 * page + 100, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
  write_plainly(folder / "a", text);
  const MappedFile file = MappedFile::open(folder / "a");
  for (const size_t first : {size_t{0}, size_t{1}, page - 1, page, page + 1, text.size()}) {
    for (const size_t count : {size_t{0}, size_t{1}, page - 1, page, 2 * page, text.size()}) {
      release_pages(file.bytes().subspan(first, std::min(count, text.size() - first)));
      EXPECT_EQ(text_of(file), text);
    }
  }
  release_pages({});
}

// Only whole pages inside the range may go: with private memory, whose pages come back as zeros, the rest must survive.
TEST(ReleasePages, LeavesTheNeighboursOnSharedPages) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const std::unique_ptr<std::byte, void (*)(void*)> memory(static_cast<std::byte*>(std::aligned_alloc(page, 4 * page)), &std::free);
  std::fill_n(memory.get(), 4 * page, std::byte{7});
  release_pages(std::span(memory.get() + 10, 3 * page));
  EXPECT_TRUE(std::all_of(memory.get(), memory.get() + page, [](std::byte b) { return b == std::byte{7}; }));
  EXPECT_TRUE(std::all_of(memory.get() + page, memory.get() + 3 * page, [](std::byte b) { return b == std::byte{0}; }))
      << "nothing was given back";
  EXPECT_TRUE(std::all_of(memory.get() + 3 * page, memory.get() + 4 * page, [](std::byte b) { return b == std::byte{7}; }));
}

}  // namespace
}  // namespace tritllm
