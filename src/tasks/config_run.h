// Owns the output of one configuration: which tensors are done, the folders they are written to, and the last step that gives the
// results their names. Does not own the work on a tensor (matrix_job.h) nor what the model card says (model_card.h).
//
//   OUT/CONFIG/packed/   OUT/CONFIG/model/   OUT/CONFIG/report.json            a whole model
//   OUT/CONFIG/part-2-of-3/                                                     one part of it (--shard 2/3)
//   OUT/CONFIG/journal*.jsonl, *.partial/                                       until it is finished
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "codec/config.h"
#include "core/thread_pool.h"
#include "io/folder_writer.h"
#include "io/manifest.h"
#include "io/model_source.h"
#include "tasks/journal.h"
#include "tasks/matrix_job.h"
#include "tasks/model_card.h"
#include "tasks/report.h"
#include "tasks/tensor_policy.h"

namespace tritllm {

struct Part {
  uint64_t index = 1;  // from 1
  uint64_t count = 1;
};

// What is to be made, apart from the configuration.
struct OutputRequest {
  std::filesystem::path folder;  // OUT
  bool emit_packed = true, emit_model = true;
  bool fresh = false;
  std::optional<Part> part;
};

class ConfigRun {
 public:
  // Reads what an earlier run left; touches nothing yet. `positions`: the tensors of this run, ascending.
  ConfigRun(const ModelSource& model, const OutputRequest& request, codec::Config config, std::vector<TensorPlan> plans,
            std::vector<uint64_t> positions, CardFacts card, const std::string& policy);

  const std::string& name() const noexcept { return name_; }
  codec::Config config() const noexcept { return config_; }
  const TensorPlan& plan(uint64_t position) const { return plans_[position]; }

  // All results are there, made by this same command.
  bool complete() const noexcept { return complete_; }
  // Bytes that are still to be written, and those of them for which an interrupted run has taken no room on the disk yet.
  uint64_t bytes_to_write() const noexcept;
  uint64_t bytes_to_allocate() const;
  // Some results were there before this run.
  bool has_former_results() const noexcept { return former_digest_.has_value(); }
  // Throws where they were made from a source with another digest.
  void refuse_other_source(const std::string& digest) const;

  // Opens folders and journal, and keeps of the earlier work what is still intact.
  void begin(ThreadPool& pool);
  bool has(uint64_t position) const { return journal_->entries().contains(position); }
  TensorSinks sinks() const noexcept { return {packed_ ? &*packed_ : nullptr, plain_ ? &*plain_ : nullptr}; }
  // Called once the tensor's bytes have been written to the sinks.
  void record(uint64_t position, const std::string& source_checksum, const codec::MatrixStats* stats);

  // Gives the results their names. `report` gets the records and returns the text of report.json.
  using MakeReport = std::function<std::string(const Manifest& manifest)>;
  void finish(const MakeReport& report);
  // Removes what a run left behind that was killed after it had given the results their names.
  void discard_leftovers();
  Json read_report() const;
  // Bytes of the weight files that were asked for.
  FolderBytes folder_bytes() const noexcept;

 private:
  void look_at_former_results();
  void discard_unfinished_folders();
  void keep_intact_entries(ThreadPool& pool);
  bool is_intact(const JournalEntry& entry, const SourceTensor& tensor) const;
  std::string stored_checksum(const TensorRecord& record) const;
  Manifest make_manifest() const;
  std::vector<std::vector<PlannedTensor>> packed_units() const;
  std::vector<std::vector<PlannedTensor>> plain_units() const;

  const ModelSource& model_;
  OutputRequest request_;
  codec::Config config_;
  std::string name_;
  std::vector<TensorPlan> plans_;
  std::vector<uint64_t> positions_;
  CardFacts card_;
  std::string fingerprint_;
  std::optional<std::string> former_digest_;  // of the source of results that were there before
  std::filesystem::path folder_, packed_path_, plain_path_, journal_path_, report_path_;
  bool complete_ = false, packed_done_ = false, plain_done_ = false;
  ShardPlan packed_plan_, plain_plan_;
  std::optional<FolderWriter> packed_, plain_;
  std::optional<Journal> journal_;
};

// Tensors that make one matrix or kept tensor of a packed checkpoint; nothing for tied ones.
std::vector<PlannedTensor> packed_tensors(const std::string& name, const std::vector<uint64_t>& shape, ElementType source,
                                          const TensorPlan& plan);

// config.json of the packed and of the plain folder, from the source's.
Json packed_config(Json config, const Manifest& manifest);
Json plain_config(Json config);

// Writes everything beside the weights into a finished set of weight files and publishes the folder.
void finish_packed_folder(FolderWriter& packed, Manifest manifest, const Json& source_config,
                          const std::vector<SideFile>& side_files, const CardFacts& card);
void finish_plain_folder(FolderWriter& plain, const Manifest& manifest, const Json& source_config,
                         const std::vector<SideFile>& side_files, const CardFacts& card);

}  // namespace tritllm
