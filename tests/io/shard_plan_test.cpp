// How tensors are spread over files.
#include "io/shard_plan.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "io/hf_folder.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

PlannedTensor bytes_of(const std::string& name, uint64_t bytes) { return {name, ElementType::kU8, {bytes}}; }

// The tensors of each file in the order of their data, read back from the planned headers.
std::vector<std::vector<std::string>> tensors_by_file(const ShardPlan& plan) {
  std::vector<std::vector<std::string>> files;
  for (const ShardFile& file : plan.files) {
    std::string whole = file.header;
    whole.resize(file.bytes);
    std::vector<std::string> names;
    for (const StoredTensor& tensor : parse_safetensors(std::as_bytes(std::span(whole)), file.name).tensors) {
      const TensorLocation& location = plan.locations.at(tensor.name);
      EXPECT_EQ(location.file, files.size());
      EXPECT_EQ(location.offset, tensor.offset);
      EXPECT_EQ(location.bytes, tensor.bytes);
      names.push_back(tensor.name);
    }
    files.push_back(names);
  }
  return files;
}

TEST(ShardPlan, FillsFilesInOrderUpToTheLimit) {
  const ShardPlan plan = plan_shards(
      {{bytes_of("a", 60)}, {bytes_of("b", 40)}, {bytes_of("c", 1)}, {bytes_of("d", 99)}, {bytes_of("e", 1)}}, plain_naming(), 100);
  EXPECT_EQ(tensors_by_file(plan), (std::vector<std::vector<std::string>>{{"a", "b"}, {"c", "d"}, {"e"}}));
  EXPECT_EQ(plan.files[0].name, "model-00001-of-00003.safetensors");
  EXPECT_EQ(plan.files[2].name, "model-00003-of-00003.safetensors");
  EXPECT_EQ(plan.index_name, "model.safetensors.index.json");
  uint64_t weights = 0;
  for (const ShardFile& file : plan.files) weights += file.bytes;
  EXPECT_EQ(plan.weight_bytes(), weights);
  EXPECT_EQ(plan.total_bytes(), weights + plan.index_text.size());
}

TEST(ShardPlan, TheLimitIsFiveGigabytesOfData) {
  const auto files = [](uint64_t second) {
    return plan_shards({{bytes_of("a", 3'000'000'000)}, {bytes_of("b", second)}}, packed_naming()).files.size();
  };
  EXPECT_EQ(files(2'000'000'000), 1u);
  EXPECT_EQ(files(2'000'000'001), 2u);
}

TEST(ShardPlan, AUnitStaysTogetherAndMayExceedTheLimitAlone) {
  const std::vector<PlannedTensor> matrix{
      bytes_of("m.trits", 70), bytes_of("m.scales", 20), {"m.codebook", ElementType::kF32, {27}}};
  const ShardPlan plan = plan_shards({{bytes_of("a", 30)}, matrix, {bytes_of("b", 30)}}, packed_naming(), 100);
  EXPECT_EQ(tensors_by_file(plan), (std::vector<std::vector<std::string>>{{"a"}, {"m.codebook", "m.trits", "m.scales"}, {"b"}}));
  EXPECT_EQ(plan.files[1].name, "trits-00002-of-00003.safetensors");
}

TEST(ShardPlan, LargestElementsFirstSoThatAllAreAligned) {
  const ShardPlan plan = plan_shards({{bytes_of("u8", 3)},
                                      {{"f16", ElementType::kF16, {3}}},
                                      {{"i64", ElementType::kI64, {1}}},
                                      {{"f32", ElementType::kF32, {5}}},
                                      {{"bf16", ElementType::kBF16, {1}}}},
                                     packed_naming());
  EXPECT_EQ(tensors_by_file(plan), (std::vector<std::vector<std::string>>{{"i64", "f32", "f16", "bf16", "u8"}}));
  for (const auto& [name, location] : plan.locations) {
    EXPECT_EQ(location.offset % (name == "i64" ? 8 : name == "f32" ? 4 : name == "u8" ? 1 : 2), 0u) << name;
  }
}

TEST(ShardPlan, TheIndexPlacesEveryTensor) {
  const ShardPlan plan = plan_shards({{bytes_of("a", 60)}, {bytes_of("b", 60)}}, plain_naming(), 100);
  const Json index = parse_json(plan.index_text, "index");
  EXPECT_EQ(index["metadata"]["total_size"], 120);
  const WeightMap map = parse_weight_map(plan.index_text, "index");
  EXPECT_EQ(map.files, (std::vector<std::string>{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}));
  EXPECT_EQ(map.tensors, (std::vector<std::pair<std::string, std::string>>{{"a", map.files[0]}, {"b", map.files[1]}}));
}

TEST(ShardPlan, ALoneFileOfAPlainFolderNeedsNoIndex) {
  const ShardPlan plain = plan_shards({{bytes_of("a", 1)}}, plain_naming());
  EXPECT_EQ(plain.files.front().name, "model.safetensors");
  EXPECT_TRUE(plain.index_name.empty());
  const ShardPlan packed = plan_shards({{bytes_of("a", 1)}}, packed_naming());
  EXPECT_EQ(packed.files.front().name, "trits-00001-of-00001.safetensors");
  EXPECT_EQ(packed.index_name, "trits.safetensors.index.json");
  EXPECT_FALSE(packed.index_text.empty());
  EXPECT_NE(packed.files.front().header.find(R"("__metadata__":{"format":"tritllm","format_version":"1"})"), std::string::npos);
}

TEST(ShardPlan, ThereIsAlwaysAFile) {
  EXPECT_EQ(plan_shards({}, packed_naming()).files.size(), 1u);
  EXPECT_EQ(plan_shards({{}, {}}, plain_naming()).files.size(), 1u);
}

TEST(ShardPlan, RefusesTwoTensorsOfOneName) {
  expect_error(ErrorCode::kBadInput, "m.trits", [] {
    plan_shards({{bytes_of("m.trits", 1)}, {bytes_of("m.trits", 2)}}, packed_naming());
  });
}

}  // namespace
}  // namespace tritllm
