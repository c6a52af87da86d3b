// What a user may name in place of a model folder, and what becomes of it.
#include "io/model_location.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/model_folder.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

class ModelLocation : public testing::Test {
 protected:
  fs::path path(const char* name = "") const { return folder_.path() / "m" / name; }
  void put(const char* name) { write_plainly(path(name), "x"); }
  void refused(ErrorCode code, std::string_view words, const fs::path& named) {
    expect_error(code, words, [&] { locate_model(named); });
  }

  const TemporaryFolder folder_;
};

TEST_F(ModelLocation, ModelsThemselves) {
  put("config.json");
  EXPECT_EQ(locate_model(path()), path());
  put("model.safetensors");
  put("a.gguf");
  EXPECT_EQ(locate_model(path()), path());
  EXPECT_EQ(locate_model(path("a.gguf")), path("a.gguf"));
  for (const char* const file : {"config.json", "model.safetensors", "model.safetensors.index.json"}) {
    put(file);
    EXPECT_EQ(locate_model(path(file)), path(file).parent_path()) << "a file of the folder stands for it";
  }
  refused(ErrorCode::kNotFound, "no such file or folder", path("b.gguf"));
  expect_error(ErrorCode::kNotFound, "hf download", [] { locate_model("nobody-has-this/Model-1B"); });
}

TEST_F(ModelLocation, OutputFolders) {
  put("optimal-d2/packed/tritllm.json");
  put("optimal-d2/model/config.json");
  EXPECT_EQ(locate_model(path()), path("optimal-d2/packed"));
  EXPECT_EQ(locate_model(path("optimal-d2")), path("optimal-d2/packed"));
  EXPECT_EQ(locate_model(path("optimal-d2/packed")), path("optimal-d2/packed"));
  EXPECT_EQ(locate_model(path("optimal-d2/packed/tritllm.json")), path("optimal-d2/packed"));
  put("uniform-d1/packed/tritllm.json");
  refused(ErrorCode::kUsage, "several packed models", path());
  refused(ErrorCode::kUsage, path("uniform-d1/packed").string(), path());
}

TEST_F(ModelLocation, OutputFoldersWithoutPackedModels) {
  put("optimal-d2/model/config.json");
  EXPECT_EQ(locate_model(path()), path("optimal-d2/model"));
  EXPECT_EQ(locate_model(path("optimal-d2")), path("optimal-d2/model"));
  put("uniform-d1/model/config.json");
  refused(ErrorCode::kUsage, path("uniform-d1/model").string(), path());
}

TEST_F(ModelLocation, IdsOfTheHub) {
  put("hub/models--owner--Name-1.5B/snapshots/111/config.json");
  ::setenv("HF_HUB_CACHE", path("hub").c_str(), 1);
  EXPECT_EQ(locate_model("owner/Name-1.5B"), path("hub/models--owner--Name-1.5B/snapshots/111"));
  refused(ErrorCode::kNotFound, "hf download", "owner/Other-1.5B");
  ::unsetenv("HF_HUB_CACHE");
  ::setenv("HF_HOME", path().c_str(), 1);
  EXPECT_EQ(locate_model("owner/Name-1.5B"), path("hub/models--owner--Name-1.5B/snapshots/111"));
  ::unsetenv("HF_HOME");
}

TEST_F(ModelLocation, TheHubsCache) {
  put("models--a--b/snapshots/111/config.json");
  put("models--a--b/blobs/1");
  EXPECT_EQ(locate_model(path("models--a--b")), path("models--a--b/snapshots/111"));
  EXPECT_EQ(locate_model(path()), path("models--a--b/snapshots/111")) << "the only model of the cache";
  put("models--a--b/snapshots/222/config.json");
  refused(ErrorCode::kUsage, "several revisions", path("models--a--b"));
  write_plainly(path("models--a--b/refs/main"), "222\n");
  EXPECT_EQ(locate_model(path("models--a--b")), path("models--a--b/snapshots/222"));
  write_plainly(path("models--a--b/refs/main"), "../../..");
  refused(ErrorCode::kUsage, "several revisions", path("models--a--b"));
  put("models--c--d/snapshots/333/only.gguf");
  EXPECT_EQ(locate_model(path("models--c--d")), path("models--c--d/snapshots/333/only.gguf"));
  refused(ErrorCode::kUsage, "is a cache of the hub", path());
}

TEST_F(ModelLocation, GgufFiles) {
  put("x-00001-of-00003.gguf");
  put("x-00003-of-00003.gguf");
  EXPECT_EQ(locate_model(path()), path("x-00001-of-00003.gguf"));
  expect_error(ErrorCode::kNotFound, "x-00002-of-00003.gguf", [&] { gguf_parts(path("x-00003-of-00003.gguf")); });
  put("x-00002-of-00003.gguf");
  const std::vector<fs::path> parts = gguf_parts(path("x-00002-of-00003.gguf"));
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0], path("x-00001-of-00003.gguf"));
  EXPECT_EQ(parts[2], path("x-00003-of-00003.gguf"));
  for (const char* const name : {"y.gguf", "x-00004-of-00003.gguf", "x-00000-of-00003.gguf", "x-0001-of-00003.gguf",
                                 "-00001-of-00002.gguf", "x-00001-of-00001.gguf", "x-+0001-of-00003.gguf"}) {
    EXPECT_EQ(gguf_parts(path(name)), std::vector<fs::path>{path(name)}) << name;
  }
  put("config.json");
  EXPECT_EQ(locate_model(path()), path("x-00001-of-00003.gguf")) << "the config of the model that it was made from";
  put("y.gguf");
  refused(ErrorCode::kUsage, "several GGUF files", path());
}

}  // namespace
}  // namespace tritllm
