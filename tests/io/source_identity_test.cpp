// Where a model comes from, by its README and by its place.
#include "io/source_identity.h"

#include <gtest/gtest.h>

#include "support/model_folder.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {

namespace fs = std::filesystem;

TEST(FrontMatter, FindsTopLevelValues) {
  const std::string card =
      "---\nlanguage:\n- en\nlicense : no\n  license: indented\nlicense_name: other\nlicense: 'apache-2.0' \r\nempty:\nbase_model: "
      "a/b\n---\nafter: x\n";
  EXPECT_EQ(front_matter_value(card, "license"), "apache-2.0");
  EXPECT_EQ(front_matter_value(card, "license_name"), "other");
  EXPECT_EQ(front_matter_value(card, "base_model"), "a/b");
  EXPECT_EQ(front_matter_value(card, "empty"), std::nullopt);
  EXPECT_EQ(front_matter_value(card, "after"), std::nullopt);
  EXPECT_EQ(front_matter_value("license: x\n", "license"), std::nullopt);
  EXPECT_EQ(front_matter_value("---\nlicense: x", "license"), "x");
  EXPECT_EQ(front_matter_value("---\nlicense: \xff\n---\n", "license"), std::nullopt);
  EXPECT_EQ(front_matter_value("---\nlicense: " + std::string(201, 'x') + "\n---\n", "license"), std::nullopt);
  EXPECT_EQ(front_matter_value("", "license"), std::nullopt);
  EXPECT_EQ(front_matter_value("\xef\xbb\xbf---\r\nlicense: mit # free\r\n---\r\n", "license"), "mit");
  EXPECT_EQ(front_matter_value("---\nlicense:\n- mit\n- apache-2.0\n---\n", "license"), "mit");
  EXPECT_EQ(front_matter_value("---\nlicense: [ 'mit', other ]\n---\n", "license"), "mit");
  EXPECT_EQ(front_matter_value("---\nmodel-index:\n- name: Name-7B\n  results: []\n---\n", "model-index"), "Name-7B");
}

class Identity : public testing::Test {
 protected:
  fs::path folder(const std::string& name) const {
    fs::create_directories(folder_ / name);
    return folder_ / name;
  }

  const std::string commit_ = std::string(40, 'a');
  const TemporaryFolder folder_;
};

TEST_F(Identity, AFolderIsCalledByItsName) {
  const SourceIdentity identity = source_identity(folder("Tiny-7B") / ".", "");
  EXPECT_EQ(identity.path_name, "Tiny-7B");
  EXPECT_EQ(identity.name, std::nullopt);
  EXPECT_EQ(identity.hub_id, std::nullopt);
  EXPECT_EQ(identity.revision, std::nullopt);
}

TEST_F(Identity, TheParentOfAFineTuneIsNotTheModel) {
  const SourceIdentity identity = source_identity(folder("Mine"), "---\nbase_model: org/Parent\nlicense: mit\n---\n");
  EXPECT_EQ(identity.name, std::nullopt);
  EXPECT_EQ(identity.hub_id, std::nullopt);
  EXPECT_EQ(identity.license, "mit");
}

TEST_F(Identity, TheReadmeTellsTheName) {
  EXPECT_EQ(source_identity(folder("x"), "---\nmodel_name: Own Name\n---\n").name, "Own Name");
  EXPECT_EQ(source_identity(folder("x"), "---\nmodel-index:\n- name: Own-7B\n---\n").name, "Own-7B");
  EXPECT_EQ(source_identity(folder("models--org--Name/snapshots/" + commit_), "---\nmodel_name: Own\n---\n").name, "Own");
}

TEST_F(Identity, TheHubsCacheTellsIdAndRevision) {
  const SourceIdentity identity = source_identity(folder("models--org--Name-1B/snapshots/" + commit_), "");
  EXPECT_EQ(identity.hub_id, "org/Name-1B");
  EXPECT_EQ(identity.name, "Name-1B");
  EXPECT_EQ(identity.path_name, "Name-1B") << "not the commit";
  EXPECT_EQ(identity.revision, commit_);
  EXPECT_EQ(source_identity(folder("models--gpt2/snapshots/main"), "").hub_id, "gpt2");
  EXPECT_EQ(source_identity(folder("models--gpt2/snapshots/main"), "").revision, std::nullopt);
  EXPECT_EQ(source_identity(folder("models--org--Name/other"), "").hub_id, std::nullopt);
}

TEST_F(Identity, AFileOfTheHubsCacheIsALinkWithANameOfItsOwn) {
  const fs::path snapshot = folder("models--org--Name-GGUF/snapshots/" + commit_);
  write_plainly(folder("models--org--Name-GGUF/blobs") / "0123", "x");
  fs::create_symlink("../../blobs/0123", snapshot / "Name.Q4_0.gguf");
  const SourceIdentity identity = source_identity(snapshot / "Name.Q4_0.gguf", "");
  EXPECT_EQ(identity.path_name, "Name.Q4_0.gguf");
  EXPECT_EQ(identity.hub_id, "org/Name-GGUF");
}

TEST_F(Identity, ADownloadTellsItsRevision) {
  write_plainly(folder("Name/.cache/huggingface/download") / "config.json.metadata", commit_ + "\netag\n17\n");
  EXPECT_EQ(source_identity(folder("Name"), "").revision, commit_);
}

TEST_F(Identity, ACloneTellsItsId) {
  write_plainly(folder("Name/.git") / "config", "[remote \"origin\"]\n\turl = https://huggingface.co/org/Name\n");
  EXPECT_EQ(source_identity(folder("Name"), "").hub_id, "org/Name");
  write_plainly(folder("Other/.git") / "config", "[remote \"origin\"]\n\turl = https://example.org/org/Name\n");
  EXPECT_EQ(source_identity(folder("Other"), "").hub_id, std::nullopt);
}

}  // namespace
}  // namespace tritllm
