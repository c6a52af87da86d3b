// The making of a folder: weights at their offsets, taking up interrupted work, and the step that gives it its name.
#include "io/folder_writer.h"

#include <gtest/gtest.h>

#include "core/checksum.h"
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
  writer.publish();

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
  writer.publish();
  EXPECT_EQ(tensor_text(folder / "out" / "model-00001-of-00002.safetensors"), "abcdef");
  EXPECT_EQ(tensor_text(folder / "out" / "model-00002-of-00002.safetensors"), "1234");
}

TEST(FolderWriter, CutsFilesThatAreTooLong) {
  const TemporaryFolder folder;
  write_plainly(folder / "out.partial" / "model-00001-of-00002.safetensors", std::string(10'000, 'x'));
  FolderWriter writer(folder / "out", two_files());
  writer.write("a", 0, bytes_of("abcdef"));
  writer.finish_weights();
  writer.publish();
  EXPECT_EQ(tensor_text(folder / "out" / "model-00001-of-00002.safetensors"), "abcdef");
}

TEST(FolderWriter, PublishesOverAFormerFolder) {
  const TemporaryFolder folder;
  write_plainly(folder / "out" / "former.txt", "x");
  FolderWriter writer(folder / "out", two_files());
  writer.finish_weights();
  EXPECT_TRUE(fs::exists(folder / "out" / "former.txt")) << "the former folder must stay until the new one is whole";
  writer.publish();
  EXPECT_FALSE(fs::exists(folder / "out" / "former.txt"));
  EXPECT_TRUE(fs::exists(folder / "out" / "model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(folder / "out.partial"));
}

}  // namespace
}  // namespace tritllm
