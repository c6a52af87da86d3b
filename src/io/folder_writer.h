// Owns a model folder while it is being made: weight files of planned size that are filled at planned offsets, in any order, under
// the name FOLDER.partial, and the step that gives the finished folder its name. An interrupted folder is taken up again as it is.
// Does not own what has been written so far (src/tasks/journal.h), nor which folders may be replaced (core/owned_folder.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/checksum.h"
#include "core/file.h"
#include "core/owned_folder.h"
#include "io/manifest.h"
#include "io/shard_plan.h"

namespace tritllm {

// The run that a folder is made by.
struct FolderJob {
  std::string fingerprint;
  Sources sources;        // what the run reads, and so never removes
  bool replaces = false;  // a former result of tritllm's under the final name may go
};

class FolderWriter {
 public:
  // Creates FOLDER.partial with its mark and its weight files, or opens what this same run left there.
  FolderWriter(std::filesystem::path folder, ShardPlan plan, FolderJob job = {});

  const ShardPlan& plan() const noexcept { return plan_; }
  const std::filesystem::path& folder() const noexcept { return folder_; }
  const std::string& file_of(const std::string& tensor) const { return plan_.files[plan_.locations.at(tensor).file].name; }

  // Writes part of a tensor, `offset` bytes after its start; thread-safe for disjoint parts.
  void write(const std::string& tensor, uint64_t offset, std::span<const std::byte> bytes) const;

  // Reads a tensor's bytes back.
  std::vector<std::byte> read(const std::string& tensor) const;

  // Adds a tensor's bytes, read back from the file, to a checksum.
  void add_to_checksum(const std::string& tensor, Checksum& checksum) const;

  // Waits until all weights written so far are on the disk.
  void sync_weights() const;

  // Writes a file beside the weights; '/' in its name makes a folder.
  void add_file(const std::string& name, std::string_view contents);

  // Closes the weight files and writes the index; afterwards only add_file() and publish() may be called. Returns a record, with
  // checksum, of every weight file and of the index.
  std::vector<FileRecord> finish_weights();

  // Records of all files written so far.
  const std::vector<FileRecord>& records() const noexcept { return records_; }

  // Gives the folder its name. A packed folder has its manifest, and loses the mark; a plain one keeps it, with all records in it.
  void publish_packed();
  void publish_plain(const std::string& source_digest);

 private:
  void publish();

  std::filesystem::path folder_, partial_;
  ShardPlan plan_;
  FolderJob job_;
  std::vector<OutputFile> files_;
  std::vector<FileRecord> records_;
};

}  // namespace tritllm
