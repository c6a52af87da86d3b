// Owns a model folder while it is being made: weight files of planned size that are filled at planned offsets, in any order, under
// the name FOLDER.partial, and the step that gives the finished folder its name. An interrupted folder is taken up again as it is.
// Does not own what has been written so far (src/tasks/journal.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/checksum.h"
#include "core/file.h"
#include "io/manifest.h"
#include "io/shard_plan.h"

namespace tritllm {

class FolderWriter {
 public:
  // Creates FOLDER.partial with its weight files, or opens what is there.
  FolderWriter(std::filesystem::path folder, ShardPlan plan);

  const ShardPlan& plan() const noexcept { return plan_; }
  const std::filesystem::path& folder() const noexcept { return folder_; }
  // Path of a file while the folder is being made.
  std::filesystem::path partial_path(std::string_view name) const { return partial_ / name; }
  const std::string& file_of(const std::string& tensor) const { return plan_.files[plan_.locations.at(tensor).file].name; }

  // Writes part of a tensor, `offset` bytes after its start; thread-safe for disjoint parts.
  void write(const std::string& tensor, uint64_t offset, std::span<const std::byte> bytes) const;

  // Adds a tensor's bytes, read back from the file, to a checksum.
  void add_to_checksum(const std::string& tensor, Checksum& checksum) const;

  // Waits until all weights written so far are on the disk.
  void sync_weights() const;

  // Writes a file beside the weights; '/' in its name makes a folder.
  void add_file(const std::string& name, std::string_view contents);

  // Closes the weight files and writes the index; afterwards only add_file() and publish() may be called. Returns a record, with
  // checksum, of every weight file and of the index.
  std::vector<FileRecord> finish_weights();

  // Gives the folder its name, in place of a former one.
  void publish();

 private:
  std::filesystem::path folder_, partial_;
  ShardPlan plan_;
  std::vector<OutputFile> files_;
};

std::filesystem::path partial_folder(const std::filesystem::path& folder);

}  // namespace tritllm
