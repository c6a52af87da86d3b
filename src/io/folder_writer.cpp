#include "io/folder_writer.h"

#include <algorithm>

#include "core/error.h"
#include "io/folder_mark.h"
#include "io/mapped_file.h"

namespace tritllm {
namespace fs = std::filesystem;

FolderWriter::FolderWriter(fs::path folder, ShardPlan plan, FolderJob job)
    : folder_(std::move(folder)), partial_(partial_folder(folder_)), plan_(std::move(plan)), job_(std::move(job)) {
  const FolderState found = folder_state(partial_);
  if (found.kind == FolderState::Kind::kNothing) create_folders(partial_);
  else if (found.kind != FolderState::Kind::kEmpty &&
           (found.kind != FolderState::Kind::kUnfinished || found.fingerprint != job_.fingerprint)) {
    refuse_foreign_folder(partial_);
  }
  mark_unfinished(partial_, job_.fingerprint);
  for (const ShardFile& file : plan_.files) {
    files_.push_back(OutputFile::create_or_open(partial_ / file.name));
    files_.back().resize(file.bytes);
    files_.back().write_at(0, std::as_bytes(std::span(file.header)));
  }
}

void FolderWriter::write(const std::string& tensor, uint64_t offset, std::span<const std::byte> bytes) const {
  const TensorLocation& location = plan_.locations.at(tensor);
  files_[location.file].write_at(location.offset + offset, bytes);
}

std::vector<std::byte> FolderWriter::read(const std::string& tensor) const {
  const TensorLocation& location = plan_.locations.at(tensor);
  std::vector<std::byte> bytes(location.bytes);
  files_[location.file].read_at(location.offset, bytes);
  return bytes;
}

void FolderWriter::add_to_checksum(const std::string& tensor, Checksum& checksum) const {
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  const TensorLocation& location = plan_.locations.at(tensor);
  std::vector<std::byte> piece(static_cast<size_t>(std::min(kPiece, location.bytes)));
  for (uint64_t at = 0; at < location.bytes; at += kPiece) {
    const std::span<std::byte> part(piece.data(), static_cast<size_t>(std::min(kPiece, location.bytes - at)));
    files_[location.file].read_at(location.offset + at, part);
    checksum.add(part);
  }
}

void FolderWriter::sync_weights() const {
  for (const OutputFile& file : files_) file.sync();
}

void FolderWriter::add_file(const std::string& name, std::string_view contents) {
  const fs::path path = partial_ / name;
  // A link in place of a folder would lead the file to where nobody asked for it.
  for (fs::path above = path.parent_path(); above != partial_; above = above.parent_path()) {
    if (kind_of(above) != FileKind::kNothing && kind_of(above) != FileKind::kFolder) refuse_foreign_folder(above);
  }
  create_folders(path.parent_path());
  write_file_atomically(path, contents);
  records_.push_back({name, FileRole::kSide, contents.size(), checksum_of(contents)});
}

std::vector<FileRecord> FolderWriter::finish_weights() {
  const auto before = static_cast<std::ptrdiff_t>(records_.size());
  for (OutputFile& file : files_) {
    file.sync();
    file.close();
    const MappedFile written = MappedFile::open(file.path());
    records_.push_back(
        {file.path().filename().string(), FileRole::kWeights, written.bytes().size(), checksum_and_release(written.bytes())});
  }
  files_.clear();
  if (!plan_.index_name.empty()) {
    add_file(plan_.index_name, plan_.index_text);
    records_.back().role = FileRole::kIndex;
  }
  return {records_.begin() + before, records_.end()};
}

void FolderWriter::publish_packed() {
  set_mark_aside(partial_, job_.fingerprint);
  remove_file(partial_ / kFolderMarkName);
  publish();
}

void FolderWriter::publish_plain(const std::string& source_digest) {
  set_mark_aside(partial_, job_.fingerprint);
  mark_finished(partial_, job_.fingerprint, mark_details(source_digest, records_));
  publish();
}

void FolderWriter::publish() {
  sync_folder(partial_);
  if (job_.replaces && kind_of(folder_) != FileKind::kNothing) publish_over_result(partial_, folder_, job_.sources);
  else publish_new_folder(partial_, folder_);
}

}  // namespace tritllm
