// Stacks of experts: each expert is quantised as it would be alone, with a codebook of its own; stacks that were written with one
// codebook for all experts are read, verified, dequantised and merged as before.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "codec/decoder.h"
#include "core/checksum.h"
#include "core/file.h"
#include "io/packed_checkpoint.h"
#include "io/parallel_loop.h"
#include "kernels/kernel_table.h"
#include "support/matrices.h"
#include "support/model_folder.h"
#include "support/quantized.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"
#include "tasks/dequantize.h"
#include "tasks/merge.h"
#include "tasks/quantize_model.h"
#include "tasks/verify.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

constexpr uint64_t kExperts = 3, kRows = 7, kColumns = 50;  // 28 groups an expert: lines hold groups of two experts
constexpr const char* kStack = "model.layers.0.mlp.experts.down_proj";
const std::vector<uint64_t> kShape{kExperts, kRows, kColumns};

// Experts whose weights differ in size, so that one codebook would not serve them all.
std::vector<float> stack_weights() {
  std::vector<float> weights = random_matrix(Distribution::kStudent5, kExperts * kRows, kColumns, 17);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] *= 0.01f * std::pow(10.0f, static_cast<float>(i / (kRows * kColumns)));
  return weights;
}

class Stack : public testing::Test {
 protected:
  // A model that holds the stack, as `shape`, and a norm.
  fs::path write_model(const std::string& name, const std::vector<uint64_t>& shape) const {
    const std::string tensor = shape.size() == 3 ? kStack : kStack + std::string(".weight");
    write_plainly(folder_ / name / "config.json", R"({"model_type": "llama"})");
    write_plainly(folder_ / name / "model.safetensors",
                  safetensors_text({f32_tensor(tensor, shape, stack_weights()), f32_tensor("norm.weight", {4}, {1, 2, 3, 4})}));
    return folder_ / name;
  }
  fs::path quantize_folder(const fs::path& model, const std::string& out, codec::Config config) const {
    QuantizeOptions options;
    options.model = model;
    options.configs = {config};
    options.output.folder = folder_ / out;
    options.threads = 2;
    quantize_model(options);
    return folder_ / out / codec::config_name(config);
  }
  // What a program wrote before experts had codebooks of their own: the stack as a matrix of all rows.
  fs::path write_old_packed(codec::Config config) const {
    const fs::path made = quantize_folder(write_model("flat", {kExperts * kRows, kColumns}), "old", config) / "packed";
    const std::string written = kStack + std::string(".weight");
    const auto rename = [&](std::string text) {
      for (size_t at = 0; (at = text.find(written, at)) != text.npos;) text.replace(at, written.size(), kStack);
      return text;
    };
    // The header keeps its length: a shorter name leaves room for spaces behind the document.
    const fs::path weights = made / "trits-00001-of-00001.safetensors";
    std::string file = read_plainly(weights);
    uint64_t header = 0;
    std::memcpy(&header, file.data(), sizeof(header));
    std::string document = rename(file.substr(8, header));
    document.resize(header, ' ');
    file.replace(8, header, document);
    write_plainly(weights, file);
    write_plainly(made / "trits.safetensors.index.json", rename(read_plainly(made / "trits.safetensors.index.json")));
    write_plainly(made / "config.json", rename(read_plainly(made / "config.json")));
    change_manifest(made, [&](Manifest& manifest) {
      for (FileRecord& record : manifest.files) {
        const std::string contents = read_plainly(made / record.name);
        record.bytes = contents.size();
        record.checksum = checksum_of(contents);
      }
      for (TensorRecord& record : manifest.tensors) {
        if (record.name != written) continue;
        record.name = kStack;
        record.shape = kShape;
      }
    });
    return made;
  }
  static void change_manifest(const fs::path& packed, const std::function<void(Manifest&)>& change) {
    Manifest manifest = read_manifest(packed);
    change(manifest);
    write_plainly(packed / kManifestName, manifest_text(manifest));
  }
  static const TensorRecord& stack_of(const Manifest& manifest) {
    for (const TensorRecord& record : manifest.tensors) {
      if (record.name == kStack) return record;
    }
    throw std::logic_error("no stack");
  }
  // The FP16 tensor of a plain folder.
  static std::vector<uint16_t> halves_of(const fs::path& folder, const std::string& name) {
    const std::string file = read_plainly(folder / "model.safetensors");
    for (const StoredTensor& tensor : parse_safetensors(std::as_bytes(std::span(file)), "test").tensors) {
      if (tensor.name != name) continue;
      std::vector<uint16_t> halves(tensor.bytes / 2);
      std::memcpy(halves.data(), file.data() + tensor.offset, tensor.bytes);
      return halves;
    }
    throw std::logic_error("no tensor " + name);
  }

  // What follows the header of a safetensors file.
  static std::string data_of(const fs::path& path) {
    const std::string file = read_plainly(path);
    uint64_t header = 0;
    std::memcpy(&header, file.data(), sizeof(header));
    return file.substr(8 + header);
  }

  const TemporaryFolder folder_;
  ThreadPool pool_{2};
};

constexpr codec::Config kConfigs[] = {{codec::Recipe::kUniform, 3}, {codec::Recipe::kOptimal, 2}};

TEST_F(Stack, EachExpertIsQuantisedAsItWouldBeAlone) {
  const fs::path model = write_model("model", kShape);
  const std::vector<float> weights = stack_weights();
  for (const codec::Config config : kConfigs) {
    SCOPED_TRACE(codec::config_name(config));
    const fs::path out = quantize_folder(model, "out", config);
    const PackedCheckpoint packed = PackedCheckpoint::open(out / "packed", loop_over(pool_));
    const TernaryMatrix matrix = packed.matrix(stack_of(packed.manifest()));
    ASSERT_EQ(matrix.codebooks.size(), kExperts);
    std::vector<uint16_t> expected;
    for (uint64_t expert = 0; expert < kExperts; ++expert) {
      const codec::MatrixShape shape{kRows, kColumns};
      const Quantized alone = quantize(std::span(weights).subspan(expert * shape.weights(), shape.weights()), shape, config,
                                       codec::scalar_group_kernels());
      EXPECT_EQ(matrix.codebooks[expert], alone.codebook());
      const size_t groups = shape.groups();
      std::vector<int8_t> codes(groups * codec::kGroupSize);
      std::vector<uint8_t> scale_codes(groups);
      decode_rows(matrix, expert * kRows, kRows, 0, shape.groups_per_row(), codes.data(), scale_codes.data());
      EXPECT_TRUE(std::equal(codes.begin(), codes.end(), alone.codes.begin()));
      EXPECT_TRUE(std::equal(scale_codes.begin(), scale_codes.end(), alone.scale_codes.begin()));
      std::vector<uint16_t> padded(codes.size()), halves(shape.weights());
      codec::HalfDecoder(alone.codebook(), config.depth).decode(codes.data(), scale_codes.data(), groups, padded.data());
      codec::strip_padding(shape, 0, groups, padded.data(), halves.data());
      expected.insert(expected.end(), halves.begin(), halves.end());
    }
    EXPECT_EQ(halves_of(out / "model", kStack), expected);
    dequantize_packed(out / "packed", folder_ / ("back-" + codec::config_name(config)), pool_, [](const std::string&) {});
    EXPECT_EQ(halves_of(folder_ / ("back-" + codec::config_name(config)), kStack), expected);
    EXPECT_TRUE(verify_model(out / "packed", pool_).empty());
    EXPECT_TRUE(verify_against_source(out / "packed", model, 0, pool_).empty());
  }
}

TEST_F(Stack, OneCodebookForAllExpertsIsStillRead) {
  const fs::path model = write_model("model", kShape);
  const codec::Config config = kConfigs[1];
  const fs::path old = write_old_packed(config);
  const std::vector<uint16_t> expected = halves_of(old.parent_path() / "model", kStack + std::string(".weight"));

  const PackedCheckpoint packed = PackedCheckpoint::open(old, loop_over(pool_));
  EXPECT_EQ(packed.matrix(stack_of(packed.manifest())).codebooks.size(), 1u);
  EXPECT_TRUE(verify_model(old, pool_).empty());
  dequantize_packed(old, folder_ / "back", pool_, [](const std::string&) {});
  EXPECT_EQ(halves_of(folder_ / "back", kStack), expected);
  // The names are part of the tensor's record, not of its checksum: the source holds the same bytes.
  EXPECT_TRUE(verify_against_source(old, model, 0, pool_).empty());
  EXPECT_NE(halves_of(quantize_folder(model, "new", config) / "model", kStack), expected) << "the test sees no difference";
}

TEST_F(Stack, OneCodebookForAllExpertsIsMergedAsItIs) {
  const codec::Config config = kConfigs[1];
  const fs::path old = write_old_packed(config);
  const std::vector<uint16_t> expected = halves_of(old.parent_path() / "model", kStack + std::string(".weight"));
  change_manifest(old, [](Manifest& manifest) { manifest.part = PartOfModel{1, 1, manifest.tensors.size(), {0, 1}}; });
  const fs::path parts = folder_ / "parts" / codec::config_name(config);
  create_folders(parts);
  fs::rename(old, parts / "part-1-of-1");
  merge_parts({.folders = {folder_ / "parts"}, .out = folder_ / "merged"}, pool_);
  const fs::path merged = folder_ / "merged" / codec::config_name(config);
  EXPECT_TRUE(verify_model(merged / "packed", pool_).empty());
  EXPECT_EQ(halves_of(merged / "model", kStack), expected);
  const std::string name = "trits-00001-of-00001.safetensors";
  EXPECT_EQ(data_of(merged / "packed" / name), data_of(parts / "part-1-of-1" / name));
}

TEST_F(Stack, PartsAreMergedIntoWhatOneRunMakes) {
  const fs::path model = write_model("model", kShape);
  const codec::Config config = kConfigs[1];
  const fs::path whole = quantize_folder(model, "whole", config);
  for (uint64_t index = 1; index <= 2; ++index) {
    QuantizeOptions options;
    options.model = model;
    options.configs = {config};
    options.output.folder = folder_ / "parts";
    options.output.part = Part{index, 2};
    options.threads = 1;
    quantize_model(options);
  }
  merge_parts({.folders = {folder_ / "parts"}, .out = folder_ / "merged"}, pool_);
  EXPECT_EQ(files_below(folder_ / "merged" / codec::config_name(config) / "packed"), files_below(whole / "packed"));
}

}  // namespace
}  // namespace tritllm
