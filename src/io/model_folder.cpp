#include "io/model_folder.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/file.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

fs::path real_path(const fs::path& path) {
  std::error_code error;
  fs::path real = fs::canonical(path.empty() ? fs::path(".") : path, error);
  if (error) throw io_error(path.string(), "find the real path", error.value());
  return real;
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

// The hub's cache has models--OWNER--NAME/snapshots/COMMIT/… and, for the contents, models--OWNER--NAME/blobs/….
bool is_blob_of_snapshot(const fs::path& file, const fs::path& folder) {
  for (fs::path at = folder; at != at.parent_path(); at = at.parent_path()) {
    const fs::path above = at.parent_path();
    if (above.filename() == "snapshots" && lies_in(file, above.parent_path() / "blobs")) return true;
  }
  return false;
}

// What is there, by the links' target.
FileKind checked_kind(const fs::path& folder, std::string_view name) {
  const fs::path path = folder / name;
  const FileKind kind = kind_of_target(path);
  if (kind == FileKind::kNothing) return kind;
  const fs::path real = real_path(path), real_folder = real_path(folder);
  if (!lies_in(real, real_folder) && !is_blob_of_snapshot(real, real_folder)) {
    throw Error(ErrorCode::kBadInput, path.string(),
                fmt::format("is a link that leads out of the model's folder, to {}", printable(real.string())),
                "put a copy of the file in its place, if it belongs to the model");
  }
  return kind;
}

[[noreturn]] void refuse_kind(const fs::path& path, FileKind found, const char* expected) {
  const char* const shown = found == FileKind::kFolder ? "a folder" : found == FileKind::kRegular ? "a file" : "a pipe or device";
  throw Error(ErrorCode::kBadInput, path.string(), fmt::format("expected {}, found {}", expected, shown),
              "move it out of the model's folder");
}

}  // namespace

bool has_model_file(const fs::path& folder, std::string_view name) {
  const FileKind kind = checked_kind(folder, name);
  if (kind != FileKind::kNothing && kind != FileKind::kRegular) refuse_kind(folder / name, kind, "a regular file");
  return kind == FileKind::kRegular;
}

bool has_model_folder(const fs::path& folder, std::string_view name) {
  const FileKind kind = checked_kind(folder, name);
  if (kind != FileKind::kNothing && kind != FileKind::kFolder) refuse_kind(folder / name, kind, "a folder");
  return kind == FileKind::kFolder;
}

std::string read_model_file(const fs::path& folder, std::string_view name, uint64_t limit) {
  has_model_file(folder, name);  // where nothing is, opening it says so
  return read_text_file(folder / name, limit);
}

MappedFile map_model_file(const fs::path& folder, std::string_view name) {
  has_model_file(folder, name);
  return MappedFile::open(folder / name);
}

}  // namespace tritllm
