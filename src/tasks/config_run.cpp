#include "tasks/config_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/checksum.h"
#include "core/error.h"
#include "io/mapped_file.h"
#include "io/packed_checkpoint.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

// Part of every fingerprint: work of another codec is never continued.
constexpr std::string_view kCodecVersion = "tritllm codec 2";

std::string run_fingerprint(const ModelSource& model, const std::string& config, const std::vector<TensorPlan>& plans,
                            const CardFacts& card, const std::string& policy) {
  Checksum checksum;
  checksum.add(fmt::format("{}\n{}\n{}\n{}\n", kCodecVersion, TRITLLM_VERSION, config, policy));
  checksum.add(
      fmt::format("{}\n{}\n{}\n{}\n", card.source_name, card.base_model.value_or(""), card.license.value_or(""), model.kind));
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const SourceTensor& tensor = model.tensors[i];
    checksum.add(fmt::format("{}\n{}\n{}\n{} {}\n", tensor.name, layout_of(tensor.type).name, fmt::join(tensor.shape, ","),
                             fate_name(plans[i].fate), plans[i].depth));
  }
  checksum.add(model.config->dump());
  for (const SideFile& file : model.side_files) checksum.add(fmt::format("{}\n{}\n", file.name, checksum_of(file.contents)));
  return checksum.hex();
}

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// What a report says of the run that wrote it.
struct Reported {
  std::string fingerprint, source_digest;
};

std::optional<Reported> read_reported(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  const Json report = parse_json(read_text_file(path), path.string());
  return Reported{json_string(report, "fingerprint", path.string()),
                  json_string(json_field(report, "source", path.string()), "digest", path.string())};
}

void refuse_what_is_no_folder(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path, error)) || is_folder(path)) return;
  throw Error(ErrorCode::kConflict, path.string(), "expected a folder or nothing",
              "move it away, or choose another folder (options.output.folder)");
}

// Adds files and remembers them for the manifest.
void add_side_file(FolderWriter& writer, std::vector<FileRecord>* records, const std::string& name, std::string_view contents) {
  writer.add_file(name, contents);
  if (records != nullptr) records->push_back({name, FileRole::kSide, contents.size(), checksum_of(contents)});
}

}  // namespace

std::vector<PlannedTensor> packed_tensors(const std::string& name, const std::vector<uint64_t>& shape, ElementType source,
                                          const TensorPlan& plan) {
  if (plan.fate == Fate::kTied) return {};
  if (plan.fate == Fate::kKept) return {{name, kept_type(source), shape}};
  TensorRecord record;
  record.shape = shape;
  return matrix_tensors(name, record.matrix_shape(), plan.depth);
}

Json packed_config(Json config, const Manifest& manifest) {
  Json depths = Json::object();
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate == Fate::kTernary) depths[record.name] = record.depth;
  }
  config["quantization_config"] = {{"quant_method", "tritllm"},
                                   {"format_version", kFormatVersion},
                                   {"group_size", codec::kGroupSize},
                                   {"recipe", manifest.recipe},
                                   {"depths", std::move(depths)}};
  return config;
}

Json plain_config(Json config) {
  config.erase("quantization_config");
  // transformers 5 says dtype where its forerunners said torch_dtype.
  const auto set_type = [](Json& part) {
    if (part.contains("dtype")) part["dtype"] = "float16";
    if (part.contains("torch_dtype") || !part.contains("dtype")) part["torch_dtype"] = "float16";
  };
  set_type(config);
  if (config.contains("text_config") && config["text_config"].is_object()) set_type(config["text_config"]);
  return config;
}

void finish_packed_folder(FolderWriter& packed, Manifest manifest, const Json& source_config,
                          const std::vector<SideFile>& side_files, const CardFacts& card) {
  const uint64_t weights = packed.plan().weight_bytes();
  manifest.files = packed.finish_weights();
  add_side_file(packed, &manifest.files, "config.json", json_text(packed_config(source_config, manifest)));
  for (const SideFile& file : side_files) add_side_file(packed, &manifest.files, file.name, file.contents);
  add_side_file(packed, &manifest.files, "README.md", model_card(CardKind::kPacked, manifest, card, weights));
  packed.add_file(std::string(kManifestName), manifest_text(manifest));
  packed.publish();
}

void finish_plain_folder(FolderWriter& plain, const Manifest& manifest, const Json& source_config,
                         const std::vector<SideFile>& side_files, const CardFacts& card) {
  const uint64_t weights = plain.plan().weight_bytes();
  plain.finish_weights();
  add_side_file(plain, nullptr, "config.json", json_text(plain_config(source_config)));
  for (const SideFile& file : side_files) add_side_file(plain, nullptr, file.name, file.contents);
  add_side_file(plain, nullptr, "README.md", model_card(CardKind::kPlain, manifest, card, weights));
  plain.publish();
}

ConfigRun::ConfigRun(const ModelSource& model, const OutputRequest& request, codec::Config config, std::vector<TensorPlan> plans,
                     std::vector<uint64_t> positions, CardFacts card, const std::string& policy)
    : model_(model),
      request_(request),
      config_(config),
      name_(codec::config_name(config)),
      plans_(std::move(plans)),
      positions_(std::move(positions)),
      card_(std::move(card)),
      fingerprint_(run_fingerprint(model, name_, plans_, card_, policy)),
      folder_(request.folder / name_) {
  const std::string part = request.part ? fmt::format("part-{}-of-{}", request.part->index, request.part->count) : "";
  packed_path_ = folder_ / (request.part ? part : "packed");
  plain_path_ = folder_ / "model";
  journal_path_ = folder_ / (request.part ? fmt::format("journal-{}.jsonl", part) : "journal.jsonl");
  report_path_ = folder_ / "report.json";
  if (request.part) request_.emit_packed = true, request_.emit_model = false;
  packed_plan_ = plan_shards(packed_units(), packed_naming());
  plain_plan_ = plan_shards(plain_units(), plain_naming());
  refuse_what_is_no_folder(packed_path_);
  if (!request_.part) refuse_what_is_no_folder(plain_path_);
  if (!request_.fresh) look_at_former_results();
}

std::vector<std::vector<PlannedTensor>> ConfigRun::packed_units() const {
  std::vector<std::vector<PlannedTensor>> units;
  for (const uint64_t position : positions_) {
    const SourceTensor& tensor = model_.tensors[position];
    units.push_back(packed_tensors(tensor.name, tensor.shape, tensor.type, plans_[position]));
  }
  return units;
}

std::vector<std::vector<PlannedTensor>> ConfigRun::plain_units() const {
  std::vector<std::vector<PlannedTensor>> units;
  for (const uint64_t position : positions_) {
    const SourceTensor& tensor = model_.tensors[position];
    if (plans_[position].fate != Fate::kTied) units.push_back({{tensor.name, kept_type(tensor.type), tensor.shape}});
  }
  return units;
}

void ConfigRun::look_at_former_results() {
  const std::string remedy = "choose another folder (options.output.folder), or have it replaced (options.output.fresh)";
  const bool packed_exists = is_folder(packed_path_), plain_exists = !request_.part && is_folder(plain_path_);
  if (packed_exists) {
    const Manifest manifest = read_manifest(packed_path_);
    if (manifest.fingerprint != fingerprint_) {
      throw Error(ErrorCode::kConflict, packed_path_.string(), "was made from another source or with other options", remedy);
    }
    former_digest_ = manifest.source_digest;
    packed_done_ = true;
  }
  const std::optional<Reported> reported = request_.part ? std::nullopt : read_reported(report_path_);
  const bool is_reported = reported && reported->fingerprint == fingerprint_;
  if (plain_exists) {
    // The plain folder carries no fingerprint; the report or the journal beside it tells whose it is.
    if (!is_reported && journal_fingerprint(journal_path_) != fingerprint_) {
      throw Error(ErrorCode::kConflict, plain_path_.string(), "was not made by this command", remedy);
    }
    if (is_reported) former_digest_ = reported->source_digest;
    plain_done_ = is_reported || !journal_replaces_results(journal_path_);
  }
  const bool results = (packed_done_ || !request_.emit_packed) && (plain_done_ || !request_.emit_model);
  complete_ = results && (request_.part.has_value() || is_reported);
}

void ConfigRun::refuse_other_source(const std::string& digest) const {
  if (!former_digest_ || *former_digest_ == digest) return;
  throw Error(ErrorCode::kConflict, folder_.string(),
              fmt::format("was made from other weights than those that {} holds now", model_.path.string()),
              "choose another folder (options.output.folder), or have it replaced (options.output.fresh)");
}

uint64_t ConfigRun::bytes_to_allocate() const {
  uint64_t taken = 0;
  if (request_.emit_packed && !packed_done_)
    taken += std::min(packed_plan_.total_bytes(), allocated_bytes(partial_folder(packed_path_)));
  if (request_.emit_model && !plain_done_)
    taken += std::min(plain_plan_.total_bytes(), allocated_bytes(partial_folder(plain_path_)));
  return bytes_to_write() - std::min(bytes_to_write(), taken);
}

uint64_t ConfigRun::bytes_to_write() const noexcept {
  if (complete_) return 0;
  uint64_t side_bytes = 0, bytes = 0;
  for (const SideFile& file : model_.side_files) side_bytes += file.contents.size();
  if (request_.emit_packed && !packed_done_) bytes += packed_plan_.total_bytes() + side_bytes;
  if (request_.emit_model && !plain_done_) bytes += plain_plan_.total_bytes() + side_bytes;
  return bytes;
}

void ConfigRun::begin(ThreadPool& pool) {
  create_folders(folder_);
  if (request_.fresh) remove_tree(journal_path_);
  // Without a journal nobody knows whose work lies there.
  if (!journal_fingerprint(journal_path_)) discard_unfinished_folders();
  journal_.emplace(journal_path_, fingerprint_, request_.fresh);
  if (request_.emit_packed && !packed_done_) packed_.emplace(packed_path_, packed_plan_);
  if (request_.emit_model && !plain_done_) plain_.emplace(plain_path_, plain_plan_);
  keep_intact_entries(pool);
}

void ConfigRun::discard_unfinished_folders() {
  remove_tree(partial_folder(packed_path_));
  if (!request_.part) remove_tree(partial_folder(plain_path_));
}

void ConfigRun::keep_intact_entries(ThreadPool& pool) {
  std::vector<uint64_t> positions;
  for (const auto& [position, entry] : journal_->entries()) positions.push_back(position);
  std::vector<char> intact(positions.size());
  pool.parallel_for(positions.size(), [&](size_t i, unsigned) {
    const bool known = positions[i] < model_.tensors.size();
    intact[i] = known && is_intact(journal_->entries().at(positions[i]), model_.tensors[positions[i]]);
  });
  for (size_t i = 0; i < positions.size(); ++i) {
    if (intact[i] == 0) journal_->forget(positions[i]);
  }
}

bool ConfigRun::is_intact(const JournalEntry& entry, const SourceTensor& tensor) const {
  if (entry.record.source_checksum != checksum_and_release(tensor.bytes)) {
    throw Error(ErrorCode::kConflict, tensor.place, "changed since the unfinished run in the output folder read it",
                "restore the source, or discard that run's work (options.output.fresh)");
  }
  if (packed_ && entry.record.checksum != stored_checksum(entry.record)) return false;
  if (!plain_ || entry.record.fate == Fate::kTied) return true;
  Checksum checksum;
  plain_->add_to_checksum(entry.record.name, checksum);
  return checksum.hex() == entry.plain_checksum;
}

std::string ConfigRun::stored_checksum(const TensorRecord& record) const {
  if (record.fate == Fate::kTied) return "";
  Checksum checksum;
  for (const std::string& name : stored_names(record)) packed_->add_to_checksum(name, checksum);
  return checksum.hex();
}

void ConfigRun::record(uint64_t position, const std::string& source_checksum, const codec::MatrixStats* stats) {
  const SourceTensor& tensor = model_.tensors[position];
  const TensorPlan& plan = plans_[position];
  JournalEntry entry;
  TensorRecord& record = entry.record;
  record.name = tensor.name;
  record.shape = tensor.shape;
  record.source_type = layout_of(tensor.type).name;
  record.source_checksum = source_checksum;
  record.fate = plan.fate;
  record.tied_to = plan.tied_to;
  if (plan.fate != Fate::kTied) {
    record.file = packed_plan_.files[packed_plan_.locations.at(stored_names(record).front()).file].name;
    // Without a packed folder there are no bytes to speak for; the source's checksum stands in.
    record.checksum = packed_ ? stored_checksum(record) : source_checksum;
    if (plain_) {
      Checksum checksum;
      plain_->add_to_checksum(tensor.name, checksum);
      entry.plain_checksum = checksum.hex();
    }
  }
  if (plan.fate == Fate::kKept) record.type = layout_of(kept_type(tensor.type)).name;
  if (plan.fate == Fate::kTernary) {
    record.depth = plan.depth;
    record.error = error_stats(*stats);
  }
  journal_->add(position, std::move(entry));
}

Manifest ConfigRun::make_manifest() const {
  Manifest manifest;
  manifest.tool_version = TRITLLM_VERSION;
  manifest.recipe = name_;
  manifest.fingerprint = fingerprint_;
  manifest.source_name = card_.base_model.value_or(card_.source_name);
  manifest.source_kind = model_.kind;
  std::vector<TensorRecord> tensors;
  for (const uint64_t position : positions_) tensors.push_back(journal_->entries().at(position).record);
  set_tensors(manifest, std::move(tensors));
  if (request_.part) manifest.part = PartOfModel{request_.part->index, request_.part->count, model_.tensors.size(), positions_};
  return manifest;
}

void ConfigRun::finish(const MakeReport& report) {
  const Manifest manifest = make_manifest();
  // A report that speaks for other folders than those that stand beside it would let them pass for its own.
  if (!request_.part) remove_tree(report_path_);
  if (packed_) finish_packed_folder(*packed_, manifest, model_.config, model_.side_files, card_);
  if (plain_) finish_plain_folder(*plain_, manifest, model_.config, model_.side_files, card_);
  if (!request_.part) write_file_atomically(report_path_, report(manifest));
  journal_->remove();
  discard_unfinished_folders();
  complete_ = true;
}

void ConfigRun::discard_leftovers() {
  remove_tree(journal_path_);
  discard_unfinished_folders();
}

Json ConfigRun::read_report() const { return parse_json(read_text_file(report_path_), report_path_.string()); }

FolderBytes ConfigRun::folder_bytes() const noexcept {
  return {request_.emit_packed ? packed_plan_.weight_bytes() : 0, request_.emit_model ? plain_plan_.weight_bytes() : 0};
}

}  // namespace tritllm
