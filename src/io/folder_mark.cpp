#include "io/folder_mark.h"

#include <fmt/format.h>

#include "core/checksum.h"
#include "core/error.h"
#include "core/file.h"
#include "io/model_folder.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kLargestMark = uint64_t{4} << 20;  // of a tree of JSON values this makes 150 MB
constexpr std::string_view kDamaged = "the file is damaged or incomplete; restore it, or quantise again";

// In a plain folder a file's name tells what it is for.
FileRole role_of(std::string_view name) {
  if (name.ends_with(".safetensors")) return FileRole::kWeights;
  return name.ends_with(".safetensors.index.json") ? FileRole::kIndex : FileRole::kSide;
}

FileRecord parse_record(const JsonView& record) {
  const std::string name = record.text("name");
  const bool is_inside = !name.empty() && name.front() != '/' && ("/" + name + "/").find("/../") == name.npos;
  if (!is_inside)
    throw Error(ErrorCode::kBadInput, record.where(),
                fmt::format("expected the name of a file in this folder, found '{}'", printable(name)));
  return {name, role_of(name), record.integer("bytes"), record.text("checksum")};
}

}  // namespace

std::optional<FolderMark> read_folder_mark(const fs::path& folder) {
  const FolderState state = folder_state(folder);
  const fs::path path = folder / kFolderMarkName;
  if (state.kind != FolderState::Kind::kResult || kind_of(path) != FileKind::kRegular) return std::nullopt;
  const std::string where = path.string();
  const std::string text = read_text_file(path, kLargestMark);
  const Json json = parse_json(text, where);
  const JsonView view(json, where);
  FolderMark mark{view.text("fingerprint"), view.text("source_digest"), {}};
  for (const JsonView& record : view.child("files").items()) mark.files.push_back(parse_record(record));
  const std::string checksum = mark_details(mark.source_digest, mark.files).at("checksum").get<std::string>();
  if (text != json_text(json) || view.text("checksum") != checksum)
    throw Error(ErrorCode::kBadInput, where, "does not match its own checksum", kDamaged);
  return mark;
}

Json mark_details(const std::string& source_digest, const std::vector<FileRecord>& files) {
  Json records = Json::array();
  for (const FileRecord& file : files) records.push_back({{"name", file.name}, {"bytes", file.bytes}, {"checksum", file.checksum}});
  Json details{{"source_digest", source_digest}, {"files", std::move(records)}};
  details["checksum"] = checksum_of(details.dump());
  return details;
}

void check_file_size(const fs::path& folder, const FileRecord& file) {
  const fs::path path = folder / file.name;
  const uint64_t bytes = map_model_file(folder, file.name).bytes().size();
  if (bytes == file.bytes) return;
  throw Error(ErrorCode::kBadInput, path.string(), fmt::format("expected {} bytes, found {}", file.bytes, bytes), kDamaged);
}

void check_file(const fs::path& folder, const FileRecord& file) {
  check_file_size(folder, file);
  const fs::path path = folder / file.name;
  const MappedFile mapped = map_model_file(folder, file.name);
  if (const std::string found = checksum_and_release(mapped.bytes()); found != file.checksum) {
    throw Error(ErrorCode::kBadInput, path.string(), fmt::format("expected the checksum {}, found {}", file.checksum, found),
                kDamaged);
  }
}

}  // namespace tritllm
