// Owns what the mark of a finished plain folder tells (core/owned_folder.h): the run that made it, and size and checksum of every
// file, so that damage to a folder without a manifest is found too. Also compares files with such records.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/owned_folder.h"
#include "io/manifest.h"

namespace tritllm {

struct FolderMark {
  std::string fingerprint;
  std::string source_digest;  // empty where the source has none
  std::vector<FileRecord> files;
};

// The mark of a finished folder; nothing where there is none. Throws where it is damaged.
std::optional<FolderMark> read_folder_mark(const std::filesystem::path& folder);

// Fields of the mark beside the fingerprint.
Json mark_details(const std::string& source_digest, const std::vector<FileRecord>& files);

// Throws an Error with both values where the file's size, or size or checksum, differs from the record.
void check_file_size(const std::filesystem::path& folder, const FileRecord& file);
void check_file(const std::filesystem::path& folder, const FileRecord& file);

}  // namespace tritllm
