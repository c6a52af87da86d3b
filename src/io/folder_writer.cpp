#include "io/folder_writer.h"

#include <algorithm>

#include "core/error.h"
#include "io/mapped_file.h"

namespace tritllm {
namespace fs = std::filesystem;

fs::path partial_folder(const fs::path& folder) {
  fs::path partial = folder;
  partial += ".partial";
  return partial;
}

FolderWriter::FolderWriter(fs::path folder, ShardPlan plan)
    : folder_(std::move(folder)), partial_(partial_folder(folder_)), plan_(std::move(plan)) {
  create_folders(partial_);
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
  if (path.has_parent_path()) create_folders(path.parent_path());
  write_file_atomically(path, contents);
}

std::vector<FileRecord> FolderWriter::finish_weights() {
  std::vector<FileRecord> records;
  for (OutputFile& file : files_) {
    file.sync();
    file.close();
    const MappedFile written = MappedFile::open(file.path());
    records.push_back(
        {file.path().filename().string(), FileRole::kWeights, written.bytes().size(), checksum_and_release(written.bytes())});
  }
  files_.clear();
  if (!plan_.index_name.empty()) {
    add_file(plan_.index_name, plan_.index_text);
    records.push_back({plan_.index_name, FileRole::kIndex, plan_.index_text.size(), checksum_of(plan_.index_text)});
  }
  return records;
}

void FolderWriter::publish() {
  sync_folder(partial_);
  publish_folder(partial_, folder_);
}

}  // namespace tritllm
