// Hugging Face folders: one file or several, side files, the front matter of cards, and folders whose parts disagree.
#include "io/hf_folder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/json.h"
#include "support/expect_error.h"
#include "support/model_folder.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

constexpr const char* kIndex = "model.safetensors.index.json";

class HfFolder : public testing::Test {
 protected:
  void SetUp() override {
    write_plainly(path() / "config.json", R"({"model_type": "llama", "_name_or_path": "org/name"})");
    write_plainly(path() / "model.safetensors", safetensors_text({a_, b_}));
  }
  // Two files and their index in place of the one.
  void make_sharded() {
    fs::remove(path() / "model.safetensors");
    write_plainly(path() / "one.safetensors", safetensors_text({b_}));
    write_plainly(path() / "two.safetensors", safetensors_text({a_}));
    write_index({{"b", "one.safetensors"}, {"a", "two.safetensors"}});
  }
  void write_index(const Json& map) {
    write_plainly(path() / kIndex, Json{{"metadata", Json::object()}, {"weight_map", map}}.dump());
  }

  fs::path path() const { return folder_.path() / "m"; }
  void refused(ErrorCode code, std::string_view words) {
    expect_error(code, words, [&] { open_hf_folder(path()); });
  }

  const TemporaryFolder folder_;
  const TestTensor a_ = f32_tensor("a", {2, 2}, {1, 2, 3, 4}), b_ = filled_tensor("b", ElementType::kI64, {1}, 'b');
};

TEST_F(HfFolder, OneFile) {
  const ModelSource model = open_model(path());
  EXPECT_EQ(model.kind, "hf_folder");
  ASSERT_EQ(model.tensors.size(), 2u);
  EXPECT_EQ(model.tensors[0].name, "a");
  EXPECT_EQ(model.tensors[0].shape, (std::vector<uint64_t>{2, 2}));
  std::vector<float> values(4);
  read_float32(model.tensors[0], 0, values);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_NE(model.tensors[1].place.find("model.safetensors: tensor 'b'"), std::string::npos);
  EXPECT_EQ(model.identity.hub_id, std::nullopt) << "the config of a fine-tune names its parent";
  EXPECT_EQ((*model.config)["model_type"], "llama");
  EXPECT_TRUE(model.warnings.empty());
}

TEST_F(HfFolder, SeveralFilesInTheOrderOfTheIndex) {
  make_sharded();
  const ModelSource model = open_hf_folder(path());
  ASSERT_EQ(model.tensors.size(), 2u);
  EXPECT_EQ(model.tensors[0].name, "b");
  EXPECT_EQ(model.tensors[1].name, "a");
  EXPECT_EQ(model.files.size(), 2u);
}

// As in transformers, whether the index's files are there or not.
TEST_F(HfFolder, ALoneFileGoesBeforeTheIndex) {
  make_sharded();
  write_plainly(path() / "model.safetensors", safetensors_text({a_}));
  for (const bool has_shards : {true, false}) {
    const ModelSource model = open_hf_folder(path());
    EXPECT_EQ(model.tensors.size(), 1u);
    ASSERT_EQ(model.warnings.size(), 1u);
    EXPECT_NE(model.warnings[0].find("model.safetensors is read"), std::string::npos);
    if (has_shards) fs::remove(path() / "one.safetensors");
  }
}

TEST_F(HfFolder, SaysWhatAFolderHoldsInsteadOfWeights) {
  fs::remove(path() / "model.safetensors");
  write_plainly(path() / "tritllm.json", "{}");
  refused(ErrorCode::kNotFound, "packed checkpoint");
  fs::remove(path() / "tritllm.json");
  write_plainly(path() / "pytorch_model.bin", "x");
  refused(ErrorCode::kNotFound, "PyTorch's own format (pytorch_model.bin)");
  write_plainly(path() / "consolidated.safetensors", "x");
  refused(ErrorCode::kNotFound, "rename it to model.safetensors");
  write_plainly(path() / "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
  refused(ErrorCode::kBadInput, "git lfs pull");
  write_plainly(path() / "config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
  refused(ErrorCode::kBadInput, "Git LFS pointer");
  write_plainly(path() / "adapter_config.json", R"({"base_model_name_or_path": "org/base", "r": 8})");
  refused(ErrorCode::kUnsupported, "adapter for 'org/base'");
}

TEST_F(HfFolder, ReadsNumbersAsPythonWritesThem) {
  write_plainly(path() / "config.json", R"({"limit": [0.0, Infinity], "z": NaN})");
  EXPECT_EQ((*open_hf_folder(path()).config)["limit"][1], INFINITY);
}

TEST_F(HfFolder, RefusesFilesThatDoNotMatchTheIndex) {
  make_sharded();
  write_index({{"b", "two.safetensors"}, {"a", "one.safetensors"}});
  refused(ErrorCode::kBadInput, "does not place it in this file");
  write_index({{"b", "one.safetensors"}, {"a", "two.safetensors"}, {"c", "two.safetensors"}});
  refused(ErrorCode::kBadInput, "expects the tensor 'c' here");
  write_index({{"b", "one.safetensors"}});
  write_plainly(path() / "one.safetensors", safetensors_text({a_, b_}));
  refused(ErrorCode::kBadInput, "does not place it in this file");
  write_index({{"b", "one.safetensors"}, {"a", "one.safetensors"}, {"c", "two.safetensors"}});
  write_plainly(path() / "two.safetensors", safetensors_text({a_}));
  refused(ErrorCode::kBadInput, "in another weight file too");
  write_index({{"b", "one.safetensors"}, {"a", "missing.safetensors"}});
  write_plainly(path() / "one.safetensors", safetensors_text({b_}));
  refused(ErrorCode::kNotFound, "missing.safetensors: is missing");
}

TEST_F(HfFolder, RefusesIndexesThatLeaveTheFolder) {
  make_sharded();
  for (const Json& file : {Json("../one.safetensors"), Json("/etc/passwd"), Json(".."), Json("."), Json(""), Json("a\\b"), Json(1),
                           Json(nullptr), Json(std::string("a\0b", 3)), Json(std::string(300, 'a'))}) {
    write_index({{"b", file}});
    refused(ErrorCode::kBadInput, "plain name of a file");
  }
  write_index(Json::object());
  refused(ErrorCode::kBadInput, "weight_map");
  write_index(Json::array());
  refused(ErrorCode::kBadInput, "weight_map");
}

TEST_F(HfFolder, RefusesFoldersThatAreNoModels) {
  write_plainly(path() / "config.json", "[]");
  refused(ErrorCode::kBadInput, "config.json");
  fs::remove(path() / "config.json");
  refused(ErrorCode::kIo, "config.json");
  write_plainly(path() / "config.json", "{}");
  write_plainly(path() / "model.safetensors", safetensors_text({}));
  refused(ErrorCode::kBadInput, "no tensors");
  fs::remove(path() / "model.safetensors");
  refused(ErrorCode::kNotFound, kIndex);
  expect_error(ErrorCode::kNotFound, "no such file", [&] { open_model(path() / "nothing"); });
}

TEST_F(HfFolder, CarriesSideFilesAndLeavesTheRest) {
  const std::vector<std::string> carried{"LICENSE",
                                         "LICENSE.txt",
                                         "NOTICE",
                                         "USE_POLICY.md",
                                         "additional_chat_templates/tool.jinja",
                                         "chat_template.jinja",
                                         "generation_config.json",
                                         "merges.txt",
                                         "tokenizer.json",
                                         "tokenizer.model",
                                         "vocab.tiktoken"};
  for (const std::string& name : carried) write_plainly(path() / name, "of " + name);
  for (const char* const name :
       {"pytorch_model.bin", "model.onnx", "modeling_x.py", "README.md", "other.index.json", "original/params.json", "logo.png"}) {
    write_plainly(path() / name, "x");
  }
  fs::create_directory(path() / "folder");
  const ModelSource model = open_hf_folder(path());
  std::vector<std::string> found;
  for (const SideFile& file : model.side_files) {
    found.push_back(file.name);
    EXPECT_EQ(file.contents, "of " + file.name);
  }
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, carried);
  ASSERT_EQ(model.warnings.size(), 1u);
  EXPECT_NE(model.warnings[0].find("Python"), std::string::npos);
}

TEST_F(HfFolder, TheCardTellsTheLicence) {
  write_plainly(path() / "README.md", "---\nlicense: \"llama3.1\"\n---\n# A\n");
  EXPECT_EQ(open_hf_folder(path()).identity.license, "llama3.1");
}

}  // namespace
}  // namespace tritllm
