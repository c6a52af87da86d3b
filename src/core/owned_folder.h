// Owns the one rule by which tritllm empties, replaces or removes a folder: it carries a mark that tritllm wrote into it before
// anything else, it is reached by no link, and it neither is nor holds nor lies in what the run reads. Everything else is left
// alone, with an error that says what is there. Does not own what is written into a folder (io/folder_writer.h).
//
//   FOLDER.partial          unfinished work: the mark is its first file
//   .FOLDER.partial.mark    the mark while a folder changes names: what is at FOLDER.partial then looks like a result
//   FOLDER                  a result: with the mark of a finished folder (plain ones) or with the manifest (packed ones)
//   FOLDER.partial.former   a result that was being replaced where the file system cannot exchange two names
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"

namespace tritllm {

inline constexpr std::string_view kFolderMarkName = ".tritllm";
inline constexpr std::string_view kPackedManifestName = "tritllm.json";

std::filesystem::path partial_folder(const std::filesystem::path& folder);
std::filesystem::path former_folder(const std::filesystem::path& folder);

// What a run reads: files, and folders with all that is in them. Known by device and inode, so that no other spelling of a path, no
// link and no bind mount hides one.
class Sources {
 public:
  Sources() = default;
  explicit Sources(const std::vector<std::filesystem::path>& paths);

  // Throw an Error of kConflict where the folder is a source or holds one, where it lies in one or is one, and in all these cases.
  void refuse_if_is_or_holds(const std::filesystem::path& folder) const;
  void refuse_inside(const std::filesystem::path& folder) const;
  void refuse_overlap(const std::filesystem::path& folder) const;

  using Identity = std::pair<uint64_t, uint64_t>;  // device, inode
  bool contains(const Identity& identity) const { return folders_.contains(identity) || files_.contains(identity); }

 private:
  void add_contents(const std::filesystem::path& folder);
  std::set<Identity> roots_;    // the sources themselves
  std::set<Identity> folders_;  // sources and the folders in them
  std::set<Identity> files_;    // sources and the files in them, links followed
  std::set<Identity> holders_;  // folders above a source
};

// The kind of thing at a path, as far as removal is concerned.
struct FolderState {
  enum class Kind {
    kNothing,
    kEmpty,       // a folder without contents: a run was killed before it had written its mark
    kUnfinished,  // ours
    kResult,      // ours
    kForeign,     // anything else, links and files included
  };
  Kind kind = Kind::kNothing;
  std::string fingerprint;  // of the run that made it; empty where it cannot be read
};
FolderState folder_state(const std::filesystem::path& folder);

// Throws an Error that names the thing at the path and the remedy.
[[noreturn]] void refuse_foreign_folder(const std::filesystem::path& folder);

// Writes the mark into a folder of unfinished work.
void mark_unfinished(const std::filesystem::path& folder, const std::string& fingerprint);
// Before publishing: puts a copy of the mark beside the folder, which vouches for it until the folder has its name.
void set_mark_aside(const std::filesystem::path& partial, const std::string& fingerprint);
// Writes the mark of a finished folder; `details`: fields for its reader (io/folder_mark.h).
void mark_finished(const std::filesystem::path& folder, const std::string& fingerprint, const Json& details);

// Which of our folders may go.
enum class Removable { kUnfinished, kResultsToo };

// Removes the folder with everything in it, its mark last, so that a killed removal can be taken up again. Nothing happens where
// nothing is.
void remove_owned_folder(const std::filesystem::path& folder, const Sources& sources, Removable removable);

// Empties a folder of unfinished work, its mark excepted, and marks it.
void empty_owned_folder(const std::filesystem::path& folder, const Sources& sources, const std::string& fingerprint);

// Gives PARTIAL the name `to`, which must be free.
void publish_new_folder(const std::filesystem::path& partial, const std::filesystem::path& to);
// The same where a former result of ours has the name: the two are exchanged in one step, and the former one is removed.
void publish_over_result(const std::filesystem::path& partial, const std::filesystem::path& to, const Sources& sources);

// Ends what publish_over_result() had begun when it was killed: a former result that lost its name gets it back, one that has a
// successor is removed.
void finish_interrupted_replacement(const std::filesystem::path& to, const Sources& sources);

}  // namespace tritllm
