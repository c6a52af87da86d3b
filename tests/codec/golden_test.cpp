// Every byte and figure of the golden files (tests/golden), from every instruction set that this machine runs, with the stripes of
// a matrix visited in shuffled order.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <map>

#include "core/checksum.h"
#include "core/file.h"
#include "core/json.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "kernels/kernel_table.h"
#include "support/matrices.h"
#include "support/quantized.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

const fs::path kGolden = fs::path(TRITLLM_SOURCE_DIR) / "tests" / "golden";

// Recipe exact has tests of its own.
std::vector<codec::Config> all_configs() {
  std::vector<codec::Config> configs;
  for (const codec::RecipeRow& row : codec::recipes()) {
    // A calibrated matrix needs inputs; by itself it is as recipe optimal has it.
    if (row.search == codec::ScaleSearch::kGivesBack || row.calibrates) continue;
    for (int depth = row.least_depth; depth <= row.most_depth; ++depth) configs.push_back({row.recipe, depth});
  }
  return configs;
}

// A golden file, its tensors by name.
class GoldenFile {
 public:
  explicit GoldenFile(const fs::path& path) : file_(MappedFile::open(path)) {
    for (StoredTensor& tensor : parse_safetensors(file_.bytes(), path.string()).tensors)
      tensors_.emplace(tensor.name, std::move(tensor));
  }

  bool has(const std::string& name) const { return tensors_.contains(name); }
  const std::vector<uint64_t>& shape(const std::string& name) const { return tensors_.at(name).shape; }

  template <typename Value>
  std::vector<Value> values(const std::string& name, ElementType type) const {
    const StoredTensor& tensor = tensors_.at(name);
    EXPECT_EQ(tensor.type, type) << name;
    std::vector<Value> values(tensor.bytes / sizeof(Value));
    std::memcpy(values.data(), file_.bytes().data() + tensor.offset, tensor.bytes);
    return values;
  }

 private:
  MappedFile file_;
  std::map<std::string, StoredTensor> tensors_;
};

std::vector<fs::path> golden_files() {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(kGolden)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

void expect_golden(const GoldenFile& golden, const Quantized& made, const std::string& config) {
  SCOPED_TRACE(config);
  const auto codebooks = golden.values<uint32_t>(config + ".codebook", ElementType::kF32);
  ASSERT_EQ(codebooks.size(), made.codebooks.size() * codec::kCodebookSize);
  for (size_t i = 0; i < codebooks.size(); ++i) {
    const float scale = made.codebooks[i / codec::kCodebookSize][i % codec::kCodebookSize];
    ASSERT_EQ(std::bit_cast<uint32_t>(scale), codebooks[i]) << "scale " << i;
  }
  EXPECT_EQ(made.scales, golden.values<uint8_t>(config + ".scales", ElementType::kU8));
  EXPECT_EQ(made.trits, golden.values<uint8_t>(config + ".trits", ElementType::kU8));

  const auto stats = golden.values<double>(config + ".figures", ElementType::kF64);
  ASSERT_EQ(stats.size(), 4u);
  EXPECT_EQ(made.stats.relative_mse(), stats[0]);
  EXPECT_EQ(made.stats.cosine(), stats[1]);
  EXPECT_EQ(made.stats.largest_error, stats[2]);
  EXPECT_EQ(static_cast<double>(made.stats.clipped), stats[3]);
  EXPECT_EQ(made.stats.level_histogram, golden.values<uint64_t>(config + ".level_histogram", ElementType::kI64));
}

class Golden : public testing::TestWithParam<kernels::KernelTable> {};
INSTANTIATE_TEST_SUITE_P(InstructionSets, Golden,
                         testing::ValuesIn(kernels::supported_tables().begin(), kernels::supported_tables().end()),
                         [](const auto& table) { return std::string(table.param.name); });

TEST_P(Golden, SmallMatrices) {
  const std::vector<fs::path> files = golden_files();
  ASSERT_EQ(files.size(), 24u);
  size_t importances = 0, stacks = 0, checked = 0;
  for (const fs::path& path : files) {
    SCOPED_TRACE(path.filename().string());
    const GoldenFile golden(path);
    const auto input = golden.values<float>("input", ElementType::kF32);
    const std::vector<uint64_t>& sizes = golden.shape("input");
    const uint64_t experts = sizes.size() == 3 ? sizes.front() : 0;
    const codec::MatrixShape shape{input.size() / sizes.back(), sizes.back(), experts};
    std::vector<float> importance;
    if (golden.has("importance")) importance = golden.values<float>("importance", ElementType::kF32);
    importances += importance.empty() ? 0u : 1u;
    stacks += experts > 0 ? 1u : 0u;
    for (const codec::Config config : all_configs()) {
      if (!golden.has(codec::config_name(config) + ".trits")) continue;
      ++checked;
      expect_golden(golden, quantize(input, shape, config, *GetParam().groups, loop_in_order(0), {importance}),
                    codec::config_name(config));
    }
  }
  EXPECT_EQ(importances, 1u);
  EXPECT_EQ(stacks, 1u);
  EXPECT_EQ(checked, 23u * 8 + 4) << "recipe uniform takes no importance";
}

TEST_P(Golden, LargeMatrices) {
  const Json cases = parse_json(read_text_file(kGolden / "codec_large.json"), "codec_large.json");
  ASSERT_EQ(cases.size(), 3u);
  for (const Json& item : cases) {
    const codec::MatrixShape shape{item["rows"], item["cols"]};
    const auto kind = item["kind"].get<std::string>();
    SCOPED_TRACE(kind + " " + std::to_string(shape.rows));
    const std::vector<float> input = large_golden_matrix(kind, item["seed"], shape.rows, shape.columns);
    ASSERT_EQ(checksum_of(std::as_bytes(std::span(input))), item["digests"]["input"]["xxh3"].get<std::string>())
        << "the formula of the input";
    for (const codec::Config config : all_configs()) {
      const std::string name = codec::config_name(config);
      const Quantized made = quantize(input, shape, config, *GetParam().groups, loop_in_order(7));
      EXPECT_EQ(made.checksum(), item["digests"][name]["xxh3"].get<std::string>()) << name;
    }
  }
}

}  // namespace
}  // namespace tritllm
