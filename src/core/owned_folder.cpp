#include "core/owned_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "core/error.h"
#include "core/file.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr int kDeepestFolder = 8;  // of folders that tritllm makes: theirs have one level
constexpr std::string_view kMarkStart = "{\n  \"tritllm_folder\": 1,\n";
constexpr std::string_view kUnfinishedState = "  \"state\": \"unfinished\",\n";
constexpr std::string_view kManifestStart = "{\n  \"format\": \"tritllm-packed\",\n";
constexpr std::string_view kAdvice = "move it away, or choose another output folder";

Sources::Identity identity_of(const struct stat& info) { return {info.st_dev, info.st_ino}; }

struct stat status_of(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) throw io_error(path.string(), "look at", errno);
  return info;
}

// What nobody can look at (gone meanwhile, a link to nowhere or in a circle, a folder of somebody else) is not read by the run
// either.
bool is_out_of_reach(int error_number) noexcept {
  return error_number == ENOENT || error_number == ENOTDIR || error_number == EACCES || error_number == ELOOP;
}

// The path without links, "." and ".."; of a path that does not exist, the part that does.
fs::path real_path(const fs::path& path) {
  std::error_code error;
  fs::path real = fs::absolute(path, error);
  if (!error) real = fs::weakly_canonical(real, error);
  if (error) throw io_error(path.string(), "look at", error.value());
  return real.filename().empty() && real.has_relative_path() ? real.parent_path() : real;
}

// The path itself and every folder above it, as far as they exist.
std::vector<std::pair<fs::path, struct stat>> with_folders_above(const fs::path& path) {
  std::vector<std::pair<fs::path, struct stat>> found;
  for (fs::path at = real_path(path);; at = at.parent_path()) {
    if (kind_of(at) != FileKind::kNothing) found.emplace_back(at, status_of(at));
    if (at == at.parent_path()) return found;
  }
}

// The first bytes of a regular file in a folder; empty where there is none. Marks have what is asked of them at their start.
std::string start_of_file(const fs::path& path) {
  constexpr size_t kBytes = 4096;
  if (kind_of(path) != FileKind::kRegular) return "";
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) throw io_error(path.string(), "open", errno);
  std::string text(kBytes, '\0');
  ssize_t got = 0;
  do got = ::pread(descriptor, text.data(), text.size(), 0);
  while (got < 0 && errno == EINTR);
  const int reason = errno;
  ::close(descriptor);
  if (got < 0) throw io_error(path.string(), "read", reason);
  text.resize(static_cast<size_t>(got));
  return text;
}

std::string fingerprint_in(std::string_view text) {
  constexpr std::string_view kField = "\n  \"fingerprint\": \"";
  constexpr size_t kDigits = 32;
  const size_t at = text.find(kField);
  if (at == text.npos) return "";
  const std::string_view digits = text.substr(at + kField.size(), kDigits);
  const bool whole = digits.size() == kDigits && digits.find_first_not_of("0123456789abcdef") == digits.npos;
  return whole ? std::string(digits) : "";
}

// What a run leaves that is killed while it writes its mark.
bool is_unwritten_mark(const std::vector<std::string>& names) {
  return names.size() == 1 && names.front() == std::string(kFolderMarkName) + ".partial";
}

fs::path mark_beside(const fs::path& folder) { return folder.parent_path() / fmt::format(".{}.mark", folder.filename().string()); }

void write_mark(const fs::path& folder, const char* state, const std::string& fingerprint, const Json& details) {
  Json mark{{"tritllm_folder", 1}, {"state", state}, {"fingerprint", fingerprint}};
  mark.update(details);
  write_file_atomically(folder / kFolderMarkName, json_text(mark));
}

// A folder that is being removed through descriptors, so that nobody can put a link in the way meanwhile.
class Removal {
 public:
  Removal(const fs::path& folder, const Sources& sources) : folder_(folder), sources_(sources) {
    descriptor_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor_ < 0) throw io_error(folder.string(), "open the folder", errno);
  }
  ~Removal() { ::close(descriptor_); }
  Removal(const Removal&) = delete;
  Removal& operator=(const Removal&) = delete;

  // Refuses what may not go before anything does.
  void check() const { visit(descriptor_, folder_, 0, false); }
  // Everything but the marks of the folder itself.
  void remove_contents() const { visit(descriptor_, folder_, 0, true); }
  void remove_marks() const {
    for (const std::string_view name : {kPackedManifestName, kFolderMarkName}) {
      if (::unlinkat(descriptor_, name.data(), 0) != 0 && errno != ENOENT)
        throw io_error((folder_ / name).string(), "remove", errno);
    }
  }

 private:
  void visit(int descriptor, const fs::path& path, int depth, bool remove) const {
    for (const std::string& name : folder_entries(fmt::format("/proc/self/fd/{}", descriptor), path)) {
      const bool is_mark = depth == 0 && (name == kFolderMarkName || name == kPackedManifestName);
      const fs::path entry = path / name;
      struct stat info {};
      if (::fstatat(descriptor, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) throw io_error(entry.string(), "look at", errno);
      if (sources_.contains(identity_of(info))) {
        throw Error(ErrorCode::kConflict, entry.string(), "is read by this run, and would have to be removed", kAdvice);
      }
      if (!S_ISDIR(info.st_mode)) {
        if (remove && !is_mark && ::unlinkat(descriptor, name.c_str(), 0) != 0) throw io_error(entry.string(), "remove", errno);
        continue;
      }
      refuse_mount(descriptor, name, entry);
      if (depth == kDeepestFolder) {
        throw Error(ErrorCode::kConflict, entry.string(), "is a folder deeper than tritllm makes any", kAdvice);
      }
      const int below = ::openat(descriptor, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (below < 0) throw io_error(entry.string(), "open the folder", errno);
      const Closer closer{below};
      visit(below, entry, depth + 1, remove);
      if (remove && ::unlinkat(descriptor, name.c_str(), AT_REMOVEDIR) != 0) throw io_error(entry.string(), "remove", errno);
    }
  }

  struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  };

  static std::vector<std::string> folder_entries(const std::string& opened, const fs::path& shown) {
    try {
      return tritllm::folder_entries(opened);
    } catch (const Error& error) {
      throw Error(error.code(), shown.string(), error.problem());
    }
  }

  // Another file system, or another place of this one, that somebody mounted in the folder.
  static void refuse_mount(int descriptor, const std::string& name, const fs::path& entry) {
    struct statx info {};
    if (::statx(descriptor, name.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &info) != 0)
      throw io_error(entry.string(), "look at", errno);
    if ((info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0)
      throw Error(ErrorCode::kConflict, entry.string(), "is a mount point", "unmount it, or choose another output folder");
  }

  const fs::path& folder_;
  const Sources& sources_;
  int descriptor_;
};

void rename_or_throw(const fs::path& from, const fs::path& to, const fs::path& named) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw io_error(named.string(), "put the finished folder in place of the former one", errno);
}

}  // namespace

fs::path partial_folder(const fs::path& folder) {
  fs::path partial = folder;
  partial += ".partial";
  return partial;
}

fs::path former_folder(const fs::path& folder) {
  fs::path former = partial_folder(folder);
  former += ".former";
  return former;
}

Sources::Sources(const std::vector<fs::path>& paths) {
  for (const fs::path& path : paths) {
    auto above = with_folders_above(path);
    if (above.empty() || kind_of_target(path) == FileKind::kNothing) {
      throw Error(ErrorCode::kNotFound, path.string(), "no such file or folder");
    }
    const bool is_folder = S_ISDIR(above.front().second.st_mode);
    roots_.insert(identity_of(above.front().second));
    (is_folder ? folders_ : files_).insert(identity_of(above.front().second));
    for (size_t i = 1; i < above.size(); ++i) holders_.insert(identity_of(above[i].second));
    if (is_folder) add_contents(above.front().first);
  }
}

void Sources::add_contents(const fs::path& folder) {
  for (const std::string& name : folder_entries(folder)) {
    const fs::path path = folder / name;
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) {
      if (is_out_of_reach(errno)) continue;
      throw io_error(path.string(), "look at", errno);
    }
    if (S_ISDIR(info.st_mode)) {
      if (folders_.insert(identity_of(info)).second && ::access(path.c_str(), R_OK | X_OK) == 0) add_contents(path);
      continue;
    }
    files_.insert(identity_of(info));
    if (!S_ISLNK(info.st_mode)) continue;
    if (::stat(path.c_str(), &info) == 0) files_.insert(identity_of(info));
    else if (!is_out_of_reach(errno)) throw io_error(path.string(), "follow the link", errno);
  }
}

void Sources::refuse_if_is_or_holds(const fs::path& folder) const {
  if (kind_of_target(folder) == FileKind::kNothing) return;
  const Identity identity = identity_of(status_of(folder));
  const auto refuse = [&](const char* problem) {
    throw Error(ErrorCode::kConflict, folder.string(), problem, "choose another output folder");
  };
  if (roots_.contains(identity)) refuse("the output folder is the source");
  if (holders_.contains(identity)) refuse("the output folder holds the source");
}

void Sources::refuse_overlap(const fs::path& folder) const {
  refuse_if_is_or_holds(folder);
  refuse_inside(folder);
}

void Sources::refuse_inside(const fs::path& folder) const {
  for (const auto& [path, info] : with_folders_above(folder)) {
    if (!folders_.contains(identity_of(info))) continue;
    throw Error(ErrorCode::kConflict, folder.string(),
                fmt::format("lies in the source {}, where nothing is removed", path.string()),
                "choose an output folder outside of it");
  }
}

FolderState folder_state(const fs::path& folder) {
  const FileKind kind = kind_of(folder);
  if (kind == FileKind::kNothing) return {FolderState::Kind::kNothing, ""};
  if (kind != FileKind::kFolder) return {FolderState::Kind::kForeign, ""};
  const auto result = [&](const std::string& text) -> FolderState {
    const std::string beside = start_of_file(mark_beside(folder));
    if (beside.starts_with(kMarkStart)) return {FolderState::Kind::kUnfinished, fingerprint_in(beside)};
    return {FolderState::Kind::kResult, fingerprint_in(text)};
  };
  if (const std::string mark = start_of_file(folder / kFolderMarkName); mark.starts_with(kMarkStart)) {
    if (mark.find(kUnfinishedState) != mark.npos) return {FolderState::Kind::kUnfinished, fingerprint_in(mark)};
    return result(mark);
  }
  if (const std::string manifest = start_of_file(folder / kPackedManifestName); manifest.starts_with(kManifestStart))
    return result(manifest);
  const std::vector<std::string> names = folder_entries(folder);
  return {names.empty() || is_unwritten_mark(names) ? FolderState::Kind::kEmpty : FolderState::Kind::kForeign, ""};
}

void refuse_foreign_folder(const fs::path& folder) {
  std::string found;
  switch (kind_of(folder)) {
    case FileKind::kNothing: found = "was there a moment ago"; break;
    case FileKind::kLink: found = "is a link, and what it leads to is left alone"; break;
    case FileKind::kRegular: found = "is a file"; break;
    case FileKind::kOther: found = "is no folder"; break;
    case FileKind::kFolder: {
      const std::vector<std::string> names = folder_entries(folder);
      found = "was not made by tritllm for this run";
      if (!names.empty()) found += fmt::format(": it holds '{}'", printable(names.front(), 100));
      if (names.size() > 1) found += fmt::format(" and {} more", names.size() - 1);
    }
  }
  throw Error(ErrorCode::kConflict, folder.string(), found, kAdvice);
}

void mark_unfinished(const fs::path& folder, const std::string& fingerprint) {
  write_mark(folder, "unfinished", fingerprint, Json::object());
  remove_file(mark_beside(folder));
}

void set_mark_aside(const fs::path& partial, const std::string& fingerprint) {
  write_file_atomically(mark_beside(partial),
                        json_text({{"tritllm_folder", 1}, {"state", "unfinished"}, {"fingerprint", fingerprint}}));
}

void mark_finished(const fs::path& folder, const std::string& fingerprint, const Json& details) {
  write_mark(folder, "finished", fingerprint, details);
}

void remove_owned_folder(const fs::path& folder, const Sources& sources, Removable removable) {
  using Kind = FolderState::Kind;
  const FolderState state = folder_state(folder);
  if (state.kind == Kind::kNothing) {
    remove_file(mark_beside(folder));
    return;
  }
  const bool may_go = state.kind == Kind::kEmpty || state.kind == Kind::kUnfinished ||
                      (state.kind == Kind::kResult && removable == Removable::kResultsToo);
  if (!may_go) refuse_foreign_folder(folder);
  sources.refuse_overlap(folder);
  const Removal removal(folder, sources);
  removal.check();
  removal.remove_contents();
  removal.remove_marks();
  if (::rmdir(folder.c_str()) != 0) throw io_error(folder.string(), "remove", errno);
  remove_file(mark_beside(folder));
}

void empty_owned_folder(const fs::path& folder, const Sources& sources, const std::string& fingerprint) {
  using Kind = FolderState::Kind;
  const Kind kind = folder_state(folder).kind;
  if (kind != Kind::kEmpty && kind != Kind::kUnfinished) refuse_foreign_folder(folder);
  if (kind == Kind::kUnfinished) {
    sources.refuse_overlap(folder);
    const Removal removal(folder, sources);
    removal.check();
    removal.remove_contents();
  }
  mark_unfinished(folder, fingerprint);
  remove_file(folder / kPackedManifestName);
}

void publish_new_folder(const fs::path& partial, const fs::path& to) {
  if (::renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
    const int reason = errno;
    if (reason != EINVAL && reason != ENOSYS) throw io_error(to.string(), "rename the finished folder", reason);
    // Without that flag, rename() replaces an empty folder, but never one with contents.
    if (kind_of(to) != FileKind::kNothing) throw io_error(to.string(), "rename the finished folder", EEXIST);
    if (::rename(partial.c_str(), to.c_str()) != 0) throw io_error(to.string(), "rename the finished folder", errno);
  }
  sync_entry(to);
  remove_file(mark_beside(partial));
}

void publish_over_result(const fs::path& partial, const fs::path& to, const Sources& sources) {
  if (folder_state(to).kind != FolderState::Kind::kResult) refuse_foreign_folder(to);
  sources.refuse_overlap(to);
  if (::renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    sync_entry(to);
    remove_owned_folder(partial, sources, Removable::kResultsToo);
  } else {
    if (errno != EINVAL && errno != ENOSYS)
      throw io_error(to.string(), "put the finished folder in place of the former one", errno);
    // For a moment nothing has the name; finish_interrupted_replacement() knows what a kill leaves here.
    const fs::path former = former_folder(to);
    rename_or_throw(to, former, to);
    rename_or_throw(partial, to, to);
    sync_entry(to);
    remove_owned_folder(former, sources, Removable::kResultsToo);
    remove_file(mark_beside(partial));
  }
  sync_entry(to);
}

void finish_interrupted_replacement(const fs::path& to, const Sources& sources) {
  const fs::path former = former_folder(to);
  const FolderState state = folder_state(former);
  if (state.kind == FolderState::Kind::kNothing) return;
  if (state.kind != FolderState::Kind::kResult && state.kind != FolderState::Kind::kEmpty) refuse_foreign_folder(former);
  if (kind_of(to) != FileKind::kNothing || state.kind == FolderState::Kind::kEmpty) {
    remove_owned_folder(former, sources, Removable::kResultsToo);
  } else {
    rename_or_throw(former, to, to);
  }
  sync_entry(to);
}

}  // namespace tritllm
