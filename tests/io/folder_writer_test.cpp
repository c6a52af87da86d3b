// The making of a folder: weights at their offsets, taking up interrupted work, and the step that gives it its name.
#include "io/folder_writer.h"

#include <gtest/gtest.h>

#include "core/checksum.h"
#include "io/folder_mark.h"
#include "support/expect_error.h"
#include "support/model_folder.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

// Two files of one tensor each.
ShardPlan two_files() { return plan_shards({{{"a", ElementType::kU8, {6}}}, {{"b", ElementType::kF16, {2}}}}, plain_naming(), 6); }

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string tensor_text(const fs::path& path) {
  const std::string file = read_plainly(path);
  const SafetensorsHeader header = parse_safetensors(bytes_of(file), path.string());
  return file.substr(header.tensors.front().offset);
}

TEST(FolderWriter, WritesPartsInAnyOrderAndPublishes) {
  const TemporaryFolder folder;
  FolderWriter writer(folder / "out", two_files());
  writer.write("b", 2, bytes_of("34"));
  writer.write("a", 3, bytes_of("def"));
  writer.write("b", 0, bytes_of("12"));
  writer.write("a", 0, bytes_of("abc"));
  EXPECT_FALSE(fs::exists(folder / "out")) << "it has its name before it is finished";
  EXPECT_EQ(writer.file_of("b"), "model-00002-of-00002.safetensors");
  Checksum checksum;
  writer.add_to_checksum("a", checksum);
  EXPECT_EQ(checksum.hex(), checksum_of("abcdef"));
  writer.add_file("config.json", "{}");
  writer.add_file("additional_chat_templates/tool.jinja", "x");

  const std::vector<FileRecord> records = writer.finish_weights();
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].name, "model-00001-of-00002.safetensors");
  EXPECT_EQ(records[0].role, FileRole::kWeights);
  EXPECT_EQ(records[2].name, "model.safetensors.index.json");
  EXPECT_EQ(records[2].role, FileRole::kIndex);
  writer.publish_packed();

  EXPECT_FALSE(fs::exists(folder / "out.partial"));
  EXPECT_EQ(tensor_text(folder / "out" / "model-00001-of-00002.safetensors"), "abcdef");
  EXPECT_EQ(tensor_text(folder / "out" / "model-00002-of-00002.safetensors"), "1234");
  EXPECT_EQ(read_plainly(folder / "out" / "config.json"), "{}");
  EXPECT_EQ(read_plainly(folder / "out" / "additional_chat_templates" / "tool.jinja"), "x");
  for (const FileRecord& record : records) {
    const std::string file = read_plainly(folder / "out" / record.name);
    EXPECT_EQ(record.bytes, file.size());
    EXPECT_EQ(record.checksum, checksum_of(file)) << record.name;
  }
}

TEST(FolderWriter, TakesUpWhatAnInterruptedRunLeft) {
  const TemporaryFolder folder;
  {
    const FolderWriter writer(folder / "out", two_files());
    writer.write("a", 0, bytes_of("abcdef"));
  }
  // The second file lost its tail, header included, in the crash.
  fs::resize_file(folder / "out.partial" / "model-00002-of-00002.safetensors", 20);
  FolderWriter writer(folder / "out", two_files());
  Checksum checksum;
  writer.add_to_checksum("a", checksum);
  EXPECT_EQ(checksum.hex(), checksum_of("abcdef"));
  writer.write("b", 0, bytes_of("1234"));
  writer.finish_weights();
  writer.publish_packed();
  EXPECT_EQ(tensor_text(folder / "out" / "model-00001-of-00002.safetensors"), "abcdef");
  EXPECT_EQ(tensor_text(folder / "out" / "model-00002-of-00002.safetensors"), "1234");
}

TEST(FolderWriter, CutsFilesThatAreTooLong) {
  const TemporaryFolder folder;
  { const FolderWriter begun(folder / "out", two_files()); }
  write_plainly(folder / "out.partial" / "model-00001-of-00002.safetensors", std::string(10'000, 'x'));
  FolderWriter writer(folder / "out", two_files());
  writer.write("a", 0, bytes_of("abcdef"));
  writer.finish_weights();
  writer.publish_packed();
  EXPECT_EQ(tensor_text(folder / "out" / "model-00001-of-00002.safetensors"), "abcdef");
}

FolderJob job_of(char digit, bool replaces = false) { return {std::string(32, digit), {}, replaces}; }

TEST(FolderWriter, ReplacesAFormerResultOfOurs) {
  const TemporaryFolder folder;
  FolderWriter former(folder / "out", two_files(), job_of('1'));
  former.finish_weights();
  former.add_file("former.txt", "x");
  former.publish_plain(std::string(32, 'd'));
  FolderWriter writer(folder / "out", two_files(), job_of('2', true));
  writer.finish_weights();
  EXPECT_TRUE(fs::exists(folder / "out" / "former.txt")) << "the former folder must stay until the new one is whole";
  writer.publish_plain(std::string(32, 'd'));
  EXPECT_FALSE(fs::exists(folder / "out" / "former.txt"));
  EXPECT_TRUE(fs::exists(folder / "out" / "model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(folder / "out.partial"));
}

TEST(FolderWriter, LeavesWhatIsNotOursAlone) {
  const TemporaryFolder folder;
  write_plainly(folder / "out" / "thesis.txt", "precious");
  FolderWriter writer(folder / "out", two_files(), job_of('1', true));
  writer.finish_weights();
  expect_error(ErrorCode::kConflict, "thesis.txt", [&] { writer.publish_plain(""); });
  write_plainly(folder / "other.partial" / "thesis.txt", "precious");
  expect_error(ErrorCode::kConflict, "thesis.txt", [&] { FolderWriter(folder / "other", two_files()); });
  { const FolderWriter begun(folder / "third", two_files(), job_of('1')); }
  expect_error(ErrorCode::kConflict, "third.partial", [&] { FolderWriter(folder / "third", two_files(), job_of('2')); });
  fs::create_directory_symlink(folder / "out", folder / "fourth.partial");
  expect_error(ErrorCode::kConflict, "is a link", [&] { FolderWriter(folder / "fourth", two_files()); });
  EXPECT_TRUE(fs::exists(folder / "out" / "thesis.txt") && fs::exists(folder / "other.partial" / "thesis.txt"));
}

TEST(FolderWriter, WritesThroughNoLink) {
  const TemporaryFolder folder;
  write_plainly(folder / "victim" / "x", "precious");
  FolderWriter writer(folder / "out", two_files());
  fs::create_directory_symlink(folder / "victim", folder / "out.partial" / "additional_chat_templates");
  expect_error(ErrorCode::kConflict, "is a link", [&] { writer.add_file("additional_chat_templates/x", "y"); });
  EXPECT_EQ(read_plainly(folder / "victim" / "x"), "precious");
}

// A plain folder's mark lists every file, so that damage is found without a manifest.
TEST(FolderWriter, TheMarkOfAPlainFolderKnowsItsFiles) {
  const TemporaryFolder folder;
  FolderWriter writer(folder / "out", two_files(), job_of('1'));
  writer.finish_weights();
  writer.add_file("config.json", "{}");
  EXPECT_FALSE(read_folder_mark(folder / "out.partial").has_value());
  writer.publish_plain(std::string(32, 'd'));
  const auto mark = read_folder_mark(folder / "out");
  ASSERT_TRUE(mark.has_value());
  EXPECT_EQ(mark->fingerprint, std::string(32, '1'));
  EXPECT_EQ(mark->source_digest, std::string(32, 'd'));
  ASSERT_EQ(mark->files.size(), 4u);
  EXPECT_EQ(mark->files[0].role, FileRole::kWeights);
  EXPECT_EQ(mark->files[2].role, FileRole::kIndex);
  EXPECT_EQ(mark->files[3].role, FileRole::kSide);
  for (const FileRecord& file : mark->files) EXPECT_NO_THROW(check_file(folder / "out", file)) << file.name;
  write_plainly(folder / "out" / "config.json", "{ }");
  expect_error(ErrorCode::kBadInput, "expected 2 bytes, found 3", [&] { check_file_size(folder / "out", mark->files[3]); });
  write_plainly(folder / "out" / "config.json", "[]");
  expect_error(ErrorCode::kBadInput, "checksum", [&] { check_file(folder / "out", mark->files[3]); });
}

}  // namespace
}  // namespace tritllm
