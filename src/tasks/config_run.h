// Owns the output of one configuration: which tensors are done, the folders they are written to, and the last step that gives the
// results their names. Does not own the work on a tensor (matrix_job.h) nor what a folder holds beside its weights
// (output_folder.h).
//
//   OUT/CONFIG/packed/   OUT/CONFIG/model/   OUT/CONFIG/report.json            a whole model
//   OUT/CONFIG/part-2-of-3/                                                     one part of it (--shard 2/3)
//   OUT/CONFIG/journal*.jsonl, *.partial/                                       until it is finished
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "codec/config.h"
#include "core/owned_folder.h"
#include "core/thread_pool.h"
#include "io/folder_writer.h"
#include "io/manifest.h"
#include "io/model_source.h"
#include "tasks/journal.h"
#include "tasks/matrix_job.h"
#include "tasks/report.h"
#include "tasks/tensor_policy.h"

namespace tritllm {

struct Part {
  uint64_t index = 1;  // from 1
  uint64_t count = 1;
};

// The options of a run other than the configuration.
struct OutputRequest {
  std::filesystem::path folder;  // OUT
  bool emit_packed = true, emit_model = true;
  bool fresh = false;
  std::optional<Part> part;
};

class ConfigRun {
 public:
  // Plans the output; looks at nothing on the disk. `positions`: the tensors of this run, ascending. The plans given here, whatever
  // set_depths() makes of them, are what the run is known by.
  ConfigRun(const ModelSource& model, const Sources& sources, const OutputRequest& request, codec::Config config,
            std::vector<TensorPlan> plans, std::vector<uint64_t> positions, CardFacts card, const std::string& policy);

  const std::string& name() const noexcept { return name_; }
  codec::Config config() const noexcept { return config_; }
  const TensorPlan& plan(uint64_t position) const { return plans_[position]; }
  // Recipe exact: the depths that were found in place of the largest ones allowed. Needed before begin(), unless all is complete.
  void set_depths(const std::map<uint64_t, int>& depths);
  // Kept tensors that FP16 cannot hold. Needed before begin(), where there is no FP16 folder.
  void set_beyond_half(const std::set<uint64_t>& positions);
  bool wants_model() const noexcept { return plain_.wanted; }

  // Ends the replacement of a result that a killed run had begun. Needs the lock of the output folder.
  void recover();
  // Reads what earlier runs left, and refuses what must not be touched. Needs the lock, unless nothing is to be written.
  void look();

  // All results are there, made by this same command.
  bool complete() const noexcept { return complete_; }
  // Bytes that are still to be written, and those of them for which an interrupted run has taken no room on the disk yet.
  uint64_t bytes_to_write() const noexcept;
  uint64_t bytes_to_allocate() const;
  // Some results were there before this run.
  bool has_former_results() const noexcept { return former_digest_.has_value(); }
  // Throws where they were made from a source with another digest, or where their weights are damaged. Returns the names of other
  // files that somebody changed.
  std::vector<std::string> check_former_results(const std::string& digest, ThreadPool& pool) const;

  // Opens folders and journal, and keeps the intact part of earlier work.
  void begin(ThreadPool& pool);
  bool has(uint64_t position) const { return journal_->entries().contains(position); }
  // Weights, [rows][columns], that a ternary tensor which has() decodes to, read back from the folders that are being made.
  std::vector<float> stored_matrix(uint64_t position) const;
  TensorSinks sinks() const noexcept { return {pointer(packed_.writer), pointer(plain_.writer)}; }
  // Called once the tensor's bytes have been written to the sinks.
  void record(uint64_t position, const std::string& source_checksum, const codec::MatrixStats* stats,
              const std::optional<PlainError>& plain_error);
  // What FP16 loses of each tensor, by name, where there is an FP16 folder.
  std::map<std::string, PlainError> plain_errors() const;

  // Gives the folders their names.
  Manifest publish();
  // Writes the report of a whole model and removes what only an unfinished run needs.
  void close(const std::optional<Json>& report);
  // Removes what a run left behind that was killed after it had given the results their names.
  void discard_leftovers();
  Json read_report() const;
  // Bytes of the weight files that were asked for.
  FolderBytes folder_bytes() const noexcept;

 private:
  // One of the folders to be made.
  struct Place {
    std::filesystem::path path;
    bool wanted = false;
    bool done = false;              // there already, made by this same command
    std::vector<FileRecord> files;  // where it is done
    ShardPlan plan;
    std::optional<FolderWriter> writer;
  };

  static const FolderWriter* pointer(const std::optional<FolderWriter>& writer) noexcept { return writer ? &*writer : nullptr; }

  void look_at_former_results();
  void discard_unfinished(const Place& place) const;
  void open(Place& place);
  void keep_intact_entries(ThreadPool& pool);
  bool is_intact(uint64_t position, const JournalEntry& entry) const;
  bool is_of_this_plan(uint64_t position, const TensorRecord& record) const;
  TensorRecord planned_record(uint64_t position) const;
  std::string stored_checksum(const TensorRecord& record) const;
  Manifest make_manifest() const;
  std::vector<std::vector<PlannedTensor>> packed_units() const;
  std::vector<std::vector<PlannedTensor>> plain_units() const;

  const ModelSource& model_;
  const Sources& sources_;
  OutputRequest request_;
  codec::Config config_;
  std::string name_;
  std::vector<TensorPlan> plans_;
  std::vector<uint64_t> positions_;
  CardFacts card_;
  std::string fingerprint_;
  std::optional<std::string> former_digest_;  // of the source of results that were there before
  std::filesystem::path folder_, journal_path_, report_path_;
  Place packed_, plain_;
  bool complete_ = false;
  bool was_replacing_ = false;  // an unfinished run here was replacing results
  std::optional<Journal> journal_;
};

}  // namespace tritllm
