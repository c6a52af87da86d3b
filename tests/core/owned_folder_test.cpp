// Owns the cases of core/owned_folder.h: what is removed, and above all what is not.
#include "core/owned_folder.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fstream>

#include "core/file.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;
using Kind = FolderState::Kind;

const std::string kOne(32, '1'), kTwo(32, '2');

void write_plainly(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

class OwnedFolder : public testing::Test {
 protected:
  // A folder of ours with a file in it.
  fs::path marked(const std::string& name, const std::string& fingerprint = kOne) {
    fs::create_directories(folder_ / name);
    mark_unfinished(folder_ / name, fingerprint);
    write_plainly(folder_ / name / "weights", "w");
    return folder_ / name;
  }
  fs::path finished(const std::string& name, const std::string& fingerprint = kOne) {
    mark_finished(marked(name, fingerprint), fingerprint, Json::object());
    return folder_ / name;
  }
  void expect_refused(const fs::path& path, const Sources& sources, std::string_view words) {
    expect_error(ErrorCode::kConflict, words, [&] { remove_owned_folder(path, sources, Removable::kResultsToo); });
  }
  const TemporaryFolder folder_;
};

TEST_F(OwnedFolder, StateTellsWhoseAFolderIs) {
  EXPECT_EQ(folder_state(folder_ / "nothing").kind, Kind::kNothing);
  fs::create_directory(folder_ / "empty");
  EXPECT_EQ(folder_state(folder_ / "empty").kind, Kind::kEmpty);
  write_plainly(folder_ / "torn" / ".tritllm.partial", "{");
  EXPECT_EQ(folder_state(folder_ / "torn").kind, Kind::kEmpty);
  EXPECT_EQ(folder_state(marked("work")).kind, Kind::kUnfinished);
  EXPECT_EQ(folder_state(folder_ / "work").fingerprint, kOne);
  EXPECT_EQ(folder_state(finished("result", kTwo)).kind, Kind::kResult);
  EXPECT_EQ(folder_state(folder_ / "result").fingerprint, kTwo);
  write_plainly(folder_ / "packed" / "tritllm.json",
                "{\n  \"format\": \"tritllm-packed\",\n  \"fingerprint\": \"" + kTwo + "\"\n}");
  EXPECT_EQ(folder_state(folder_ / "packed").kind, Kind::kResult);
  EXPECT_EQ(folder_state(folder_ / "packed").fingerprint, kTwo);
}

TEST_F(OwnedFolder, WhatOnlyLooksLikeAMarkIsNone) {
  write_plainly(folder_ / "theirs" / "thesis.txt", "precious");
  EXPECT_EQ(folder_state(folder_ / "theirs").kind, Kind::kForeign);
  write_plainly(folder_ / "manifest" / "tritllm.json", "{}");
  EXPECT_EQ(folder_state(folder_ / "manifest").kind, Kind::kForeign);
  write_plainly(folder_ / "file", "");
  EXPECT_EQ(folder_state(folder_ / "file").kind, Kind::kForeign);
  fs::create_directory_symlink(marked("work"), folder_ / "link");
  EXPECT_EQ(folder_state(folder_ / "link").kind, Kind::kForeign);
  fs::create_symlink("nowhere", folder_ / "dangling");
  EXPECT_EQ(folder_state(folder_ / "dangling").kind, Kind::kForeign);
  fs::create_directory(folder_ / "by_link");
  fs::create_symlink(folder_ / "work" / ".tritllm", folder_ / "by_link" / ".tritllm");
  EXPECT_EQ(folder_state(folder_ / "by_link").kind, Kind::kForeign);
}

TEST_F(OwnedFolder, RemovesOursAndFollowsNoLink) {
  write_plainly(folder_ / "victim" / "thesis.txt", "precious");
  const fs::path work = marked("work");
  fs::create_directory_symlink(folder_ / "victim", work / "link");
  fs::create_symlink(folder_ / "victim" / "thesis.txt", work / "file");
  write_plainly(work / "additional_chat_templates" / "tool.jinja", "x");
  remove_owned_folder(work, {}, Removable::kUnfinished);
  EXPECT_FALSE(fs::exists(work));
  EXPECT_TRUE(fs::exists(folder_ / "victim" / "thesis.txt"));
  remove_owned_folder(work, {}, Removable::kUnfinished);
}

TEST_F(OwnedFolder, RefusesWhatIsNotOursByName) {
  write_plainly(folder_ / "theirs" / "thesis.txt", "precious");
  write_plainly(folder_ / "theirs" / "more.txt", "");
  expect_refused(folder_ / "theirs", {}, "it holds 'more.txt' and 1 more; move it away");
  fs::create_directory_symlink(marked("work"), folder_ / "link");
  expect_refused(folder_ / "link", {}, "is a link");
  write_plainly(folder_ / "file", "precious");
  expect_refused(folder_ / "file", {}, "is a file");
  EXPECT_TRUE(fs::exists(folder_ / "theirs" / "thesis.txt") && fs::exists(folder_ / "work" / "weights") &&
              fs::exists(folder_ / "file"));
}

TEST_F(OwnedFolder, AResultGoesOnlyWhereTheCallerSaysSo) {
  const fs::path result = finished("result");
  expect_error(ErrorCode::kConflict, "result", [&] { remove_owned_folder(result, {}, Removable::kUnfinished); });
  EXPECT_TRUE(fs::exists(result / "weights"));
  remove_owned_folder(result, {}, Removable::kResultsToo);
  EXPECT_FALSE(fs::exists(result));
}

// Each case names a source that the removal of "work", a folder with our mark, would cost.
TEST_F(OwnedFolder, ASourceIsNeverRemovedHoweverItIsSpelled) {
  const fs::path work = marked("work"), inner = work / "model";
  write_plainly(inner / "config.json", "{}");
  fs::create_directory_symlink(work, folder_ / "link");
  fs::create_directory_symlink(inner, folder_ / "inner_link");
  for (const fs::path& source :
       {work, fs::path(work.string() + "/"), work / ".", folder_ / "link", folder_ / "link" / "model" / "..", inner, inner / "",
        folder_ / "inner_link", work / "weights", inner / "config.json", inner / ".." / "model" / "config.json"}) {
    expect_refused(work, Sources({source}), "source");
    EXPECT_TRUE(fs::exists(inner / "config.json")) << source;
    EXPECT_TRUE(fs::exists(work / "weights")) << source;
  }
  // The source holds the folder.
  expect_refused(work, Sources({folder_.path()}), "lies in the source");
  expect_refused(folder_ / "link" / ".." / "work", Sources({folder_.path()}), "lies in the source");
  EXPECT_TRUE(fs::exists(inner / "config.json"));
}

TEST_F(OwnedFolder, FilesThatASourceLinksToAreItsOwn) {
  const fs::path work = marked("work");
  write_plainly(work / "blob", "weights");
  fs::create_directory(folder_ / "model");
  fs::create_symlink(work / "blob", folder_ / "model" / "model.safetensors");
  expect_refused(work, Sources({folder_ / "model"}), "blob: is read by this run");
  fs::remove(folder_ / "model" / "model.safetensors");
  fs::create_hard_link(work / "blob", folder_ / "model" / "model.safetensors");
  expect_refused(work, Sources({folder_ / "model"}), "blob: is read by this run");
  EXPECT_TRUE(fs::exists(work / "weights")) << "refused before anything was removed";
}

TEST_F(OwnedFolder, NothingBehindAMountPointIsRemoved) {
  const fs::path work = marked("work"), model = folder_ / "model";
  write_plainly(model / "deep" / "config.json", "{}");
  fs::create_directory(work / "mounted");
  const auto mounted = [](const fs::path& from, const fs::path& to) {
    return ::mount(from.c_str(), to.c_str(), nullptr, MS_BIND, nullptr) == 0;
  };
  if (!mounted(model, work / "mounted")) GTEST_SKIP() << "no permission to mount";
  expect_refused(work, {}, "is a mount point");
  expect_refused(work, Sources({model}), "is read by this run");
  ::umount2((work / "mounted").c_str(), MNT_DETACH);
  // The folder itself, by another mount of what lies in the source.
  marked("model/deep/work");
  fs::create_directory(folder_ / "elsewhere");
  ASSERT_TRUE(mounted(model / "deep", folder_ / "elsewhere"));
  expect_refused(folder_ / "elsewhere" / "work", Sources({model}), "lies in the source");
  ::umount2((folder_ / "elsewhere").c_str(), MNT_DETACH);
  EXPECT_TRUE(fs::exists(model / "deep" / "work" / "weights"));
  EXPECT_TRUE(fs::exists(model / "deep" / "config.json"));
}

TEST_F(OwnedFolder, FoldersDeeperThanOursAreNot) {
  const fs::path work = marked("work");
  write_plainly(work / "1" / "2" / "3" / "4" / "5" / "6" / "7" / "8" / "9" / "10" / "thesis.txt", "precious");
  expect_refused(work, {}, "deeper than tritllm makes any");
  EXPECT_TRUE(fs::exists(work / "weights"));
}

TEST_F(OwnedFolder, EmptyingKeepsTheFolderAndItsMark) {
  const fs::path work = marked("work");
  empty_owned_folder(work, {}, kTwo);
  EXPECT_EQ(folder_entries(work), std::vector<std::string>{".tritllm"});
  EXPECT_EQ(folder_state(work).fingerprint, kTwo);
  expect_error(ErrorCode::kConflict, "result", [&] { empty_owned_folder(finished("result"), {}, kOne); });
  write_plainly(folder_ / "theirs" / "thesis.txt", "precious");
  expect_error(ErrorCode::kConflict, "thesis.txt", [&] { empty_owned_folder(folder_ / "theirs", {}, kOne); });
}

TEST_F(OwnedFolder, PublishingTakesNoNameThatIsInUse) {
  publish_new_folder(marked("a.partial"), folder_ / "a");
  EXPECT_TRUE(fs::exists(folder_ / "a" / "weights"));
  fs::create_directory(folder_ / "b");
  expect_error(ErrorCode::kIo, "b: cannot rename", [&] { publish_new_folder(marked("b.partial"), folder_ / "b"); });
  EXPECT_TRUE(fs::exists(folder_ / "b.partial" / "weights"));
}

TEST_F(OwnedFolder, PublishingReplacesOnlyResultsOfOurs) {
  const fs::path old = finished("a");
  write_plainly(old / "only-old", "o");
  publish_over_result(finished("a.partial", kTwo), old, {});
  EXPECT_EQ(folder_state(old).fingerprint, kTwo);
  EXPECT_FALSE(fs::exists(old / "only-old"));
  EXPECT_EQ(folder_entries(folder_.path()), std::vector<std::string>{"a"});

  write_plainly(folder_ / "b" / "thesis.txt", "precious");
  expect_error(ErrorCode::kConflict, "thesis.txt", [&] { publish_over_result(finished("b.partial"), folder_ / "b", {}); });
  expect_error(ErrorCode::kConflict, "source", [&] { publish_over_result(finished("c.partial"), old, Sources({old})); });
  EXPECT_TRUE(fs::exists(folder_ / "b" / "thesis.txt") && fs::exists(old / "weights"));
}

TEST_F(OwnedFolder, AnInterruptedReplacementIsFinished) {
  finished("a.partial.former");
  finish_interrupted_replacement(folder_ / "a", {});
  EXPECT_EQ(folder_entries(folder_.path()), std::vector<std::string>{"a"}) << "a result that lost its name gets it back";
  finished("a.partial.former", kTwo);
  finish_interrupted_replacement(folder_ / "a", {});
  EXPECT_EQ(folder_entries(folder_.path()), std::vector<std::string>{"a"});
  EXPECT_EQ(folder_state(folder_ / "a").fingerprint, kOne) << "one that has a successor goes";
  finish_interrupted_replacement(folder_ / "a", {});
  write_plainly(folder_ / "a.partial.former" / "thesis.txt", "precious");
  expect_error(ErrorCode::kConflict, "thesis.txt", [&] { finish_interrupted_replacement(folder_ / "a", {}); });
}

}  // namespace
}  // namespace tritllm
