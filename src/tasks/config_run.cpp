#include "tasks/config_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "codec/decoder.h"
#include "codec/grouping.h"
#include "core/checksum.h"
#include "core/error.h"
#include "core/file.h"
#include "io/folder_mark.h"
#include "io/mapped_file.h"
#include "io/packed_checkpoint.h"
#include "tasks/output_folder.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

// Part of every fingerprint: work of another codec is never continued.
constexpr std::string_view kCodecVersion = "tritllm codec 2";

std::string run_fingerprint(const ModelSource& model, const std::string& config, const std::vector<TensorPlan>& plans,
                            const CardFacts& card, const std::string& policy) {
  Checksum checksum;
  checksum.add(fmt::format("{}\n{}\n{}\n{}\n", kCodecVersion, TRITLLM_VERSION, config, policy));
  checksum.add(fmt::format("{}\n{}\n", to_json(card).dump(), model.kind));
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const SourceTensor& tensor = model.tensors[i];
    checksum.add(fmt::format("{}\n{}\n{}\n{} {}\n", tensor.name, layout_of(tensor.type).name, fmt::join(tensor.shape, ","),
                             fate_name(plans[i].fate), plans[i].depth));
  }
  checksum.add(model.config->dump());
  for (const SideFile& file : model.side_files) checksum.add(fmt::format("{}\n{}\n", file.name, checksum_of(file.contents)));
  return checksum.hex();
}

// The fingerprint of the run that wrote the report.
std::optional<std::string> reported_fingerprint(const fs::path& path) {
  if (kind_of(path) != FileKind::kRegular) return std::nullopt;
  static constexpr std::string_view kLists[] = {"/tensors"};
  const Json report =
      parse_json_in_parts(read_text_file(path), path.string(), kLists, [](size_t, const std::string&, const Json&) {});
  return JsonView(report, path.string()).text("fingerprint");
}

constexpr const char* kReplaceRemedy = "choose another folder (options.output.folder), or have it replaced (options.output.fresh)";

}  // namespace

ConfigRun::ConfigRun(const ModelSource& model, const Sources& sources, const OutputRequest& request, codec::Config config,
                     std::vector<TensorPlan> plans, std::vector<uint64_t> positions, CardFacts card, const std::string& policy)
    : model_(model),
      sources_(sources),
      request_(request),
      config_(config),
      name_(codec::config_name(config)),
      plans_(std::move(plans)),
      positions_(std::move(positions)),
      card_(std::move(card)),
      fingerprint_(run_fingerprint(model, name_, plans_, card_, policy)),
      folder_(request.folder / name_) {
  const std::string part = request.part ? fmt::format("part-{}-of-{}", request.part->index, request.part->count) : "";
  if (request.part) request_.emit_packed = true, request_.emit_model = false;
  packed_.path = folder_ / (request.part ? part : "packed");
  packed_.wanted = request_.emit_packed;
  packed_.plan = plan_shards(packed_units(), packed_naming());
  plain_.path = folder_ / "model";
  plain_.wanted = request_.emit_model;
  plain_.plan = plan_shards(plain_units(), plain_naming());
  journal_path_ = folder_ / (request.part ? fmt::format("journal-{}.jsonl", part) : "journal.jsonl");
  report_path_ = folder_ / "report.json";
}

void ConfigRun::set_depths(const std::map<uint64_t, int>& depths) {
  for (const auto& [position, depth] : depths) plans_[position].depth = depth;
  packed_.plan = plan_shards(packed_units(), packed_naming());
}

void ConfigRun::set_beyond_half(const std::set<uint64_t>& positions) {
  for (const uint64_t position : positions) plans_[position].is_beyond_half = true;
  packed_.plan = plan_shards(packed_units(), packed_naming());
}

std::map<std::string, PlainError> ConfigRun::plain_errors() const {
  std::map<std::string, PlainError> errors;
  if (!plain_.wanted || !journal_) return errors;
  for (const auto& [position, entry] : journal_->entries()) {
    if (entry.record.fate == Fate::kTernary && !entry.plain_error) return {};  // an earlier run made model/
    if (entry.plain_error) errors.emplace(entry.record.name, *entry.plain_error);
  }
  return errors;
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

void ConfigRun::recover() {
  for (const Place* const place : {&packed_, &plain_}) {
    if (place == &plain_ && request_.part) continue;
    finish_interrupted_replacement(place->path, sources_);
  }
}

void ConfigRun::look() {
  using Kind = FolderState::Kind;
  for (const Place* const place : {&packed_, &plain_}) {
    if (place == &plain_ && request_.part) continue;
    for (const fs::path& path : {place->path, partial_folder(place->path), former_folder(place->path)})
      sources_.refuse_if_is_or_holds(path);
    const Kind result = folder_state(place->path).kind;
    if (result != Kind::kNothing && result != Kind::kResult) refuse_foreign_folder(place->path);
    const Kind partial = folder_state(partial_folder(place->path)).kind;
    if (partial == Kind::kForeign || partial == Kind::kResult) refuse_foreign_folder(partial_folder(place->path));
  }
  was_replacing_ = journal_replaces_results(journal_path_);
  // Nothing in a source is replaced, which is better said before the work.
  if (request_.fresh || was_replacing_) {
    for (const Place* const place : {&packed_, &plain_}) {
      if (place->wanted && kind_of(place->path) != FileKind::kNothing) sources_.refuse_overlap(place->path);
    }
  }
  if (!request_.fresh) look_at_former_results();
}

void ConfigRun::look_at_former_results() {
  // Results of other runs are in the way, unless a run of this command was replacing them when it was interrupted.
  const bool continues_replacing = was_replacing_ && journal_fingerprint(journal_path_) == fingerprint_;
  const auto is_of_this_command = [&](const fs::path& path, const std::string& fingerprint) {
    if (fingerprint == fingerprint_) return true;
    if (continues_replacing) return false;
    throw Error(ErrorCode::kConflict, path.string(), "was made from another source or with other options", kReplaceRemedy);
  };
  if (kind_of(packed_.path) != FileKind::kNothing) {
    Manifest manifest = read_manifest(packed_.path);
    if (is_of_this_command(packed_.path, manifest.fingerprint)) {
      former_digest_ = manifest.source_digest;
      packed_.files = std::move(manifest.files);
      packed_.done = true;
    }
  }
  const bool is_reported = !request_.part && reported_fingerprint(report_path_) == fingerprint_;
  if (!request_.part && kind_of(plain_.path) != FileKind::kNothing) {
    std::optional<FolderMark> mark = read_folder_mark(plain_.path);
    if (!mark) refuse_foreign_folder(plain_.path);
    // A run that was replacing results may have been killed before it came to this one.
    if (is_of_this_command(plain_.path, mark->fingerprint) && (is_reported || !was_replacing_)) {
      if (former_digest_ && *former_digest_ != mark->source_digest) {
        throw Error(ErrorCode::kConflict, plain_.path.string(),
                    fmt::format("was made from other weights than {}", packed_.path.string()), kReplaceRemedy);
      }
      former_digest_ = mark->source_digest;
      plain_.files = std::move(mark->files);
      plain_.done = true;
    }
  }
  for (const Place* const place : {&packed_, &plain_}) {
    for (const FileRecord& file : place->files) {
      if (file.role != FileRole::kSide) check_file_size(place->path, file);
    }
  }
  const bool results = (packed_.done || !packed_.wanted) && (plain_.done || !plain_.wanted);
  complete_ = results && (request_.part.has_value() || is_reported);
}

std::vector<std::string> ConfigRun::check_former_results(const std::string& digest, ThreadPool& pool) const {
  if (former_digest_ && *former_digest_ != digest) {
    throw Error(ErrorCode::kConflict, folder_.string(),
                fmt::format("was made from other weights than those that {} holds now", model_.path.string()), kReplaceRemedy);
  }
  std::vector<std::string> changed;
  for (const Place* const place : {&packed_, &plain_}) {
    std::vector<char> is_changed(place->files.size());
    pool.parallel_for(place->files.size(), [&](size_t i, unsigned) {
      const FileRecord& file = place->files[i];
      try {
        check_file(place->path, file);
      } catch (const Error& error) {
        // A side file may be changed by its owner, but a disk that fails is no change.
        if (file.role != FileRole::kSide || error.code() == ErrorCode::kIo)
          throw Error(error.code(), error.where(), error.problem(), "restore it, or have it made again (options.output.fresh)");
        is_changed[i] = 1;
      }
    });
    for (size_t i = 0; i < is_changed.size(); ++i) {
      if (is_changed[i] != 0) changed.push_back((place->path / place->files[i].name).string());
    }
  }
  return changed;
}

uint64_t ConfigRun::bytes_to_allocate() const {
  uint64_t taken = 0;
  for (const Place* const place : {&packed_, &plain_}) {
    if (place->wanted && !place->done) taken += std::min(place->plan.total_bytes(), allocated_bytes(partial_folder(place->path)));
  }
  return bytes_to_write() - std::min(bytes_to_write(), taken);
}

uint64_t ConfigRun::bytes_to_write() const noexcept {
  if (complete_) return 0;
  uint64_t side_bytes = 0, bytes = 0;
  for (const SideFile& file : model_.side_files) side_bytes += file.contents.size();
  for (const Place* const place : {&packed_, &plain_}) {
    if (place->wanted && !place->done) bytes += place->plan.total_bytes() + side_bytes;
  }
  return bytes;
}

void ConfigRun::begin(ThreadPool& pool) {
  create_folders(folder_);
  // Without a journal nobody knows how far the work there is.
  if (request_.fresh || !journal_fingerprint(journal_path_)) {
    discard_unfinished(packed_);
    discard_unfinished(plain_);
  }
  if (request_.fresh) remove_file(journal_path_);
  journal_.emplace(journal_path_, fingerprint_, request_.fresh);
  open(packed_);
  open(plain_);
  keep_intact_entries(pool);
}

void ConfigRun::discard_unfinished(const Place& place) const {
  if (&place == &plain_ && request_.part) return;
  remove_owned_folder(partial_folder(place.path), sources_, Removable::kUnfinished);
}

void ConfigRun::open(Place& place) {
  if (!place.wanted || place.done) return;
  const FolderState state = folder_state(partial_folder(place.path));
  if (state.kind == FolderState::Kind::kUnfinished && state.fingerprint != fingerprint_) discard_unfinished(place);
  place.writer.emplace(place.path, place.plan, FolderJob{fingerprint_, sources_, request_.fresh || was_replacing_});
}

void ConfigRun::keep_intact_entries(ThreadPool& pool) {
  std::vector<uint64_t> positions;
  for (const auto& [position, entry] : journal_->entries()) positions.push_back(position);
  std::vector<char> intact(positions.size());
  pool.parallel_for(positions.size(),
                    [&](size_t i, unsigned) { intact[i] = is_intact(positions[i], journal_->entries().at(positions[i])); });
  for (size_t i = 0; i < positions.size(); ++i) {
    if (intact[i] == 0) journal_->forget(positions[i]);
  }
}

// What this run's record of the tensor says before its bytes are known.
TensorRecord ConfigRun::planned_record(uint64_t position) const {
  const SourceTensor& tensor = model_.tensors[position];
  const TensorPlan& plan = plans_[position];
  TensorRecord record;
  record.name = tensor.name;
  record.shape = tensor.shape;
  record.source_type = layout_of(tensor.type).name;
  record.fate = plan.fate;
  record.tied_to = plan.tied_to;
  if (plan.fate != Fate::kTied) record.file = packed_.plan.files[packed_.plan.locations.at(stored_names(record).front()).file].name;
  if (plan.fate == Fate::kKept) record.type = layout_of(kept_type(tensor.type, plan.is_beyond_half)).name;
  if (plan.fate == Fate::kTernary) record.depth = plan.depth;
  return record;
}

// A journal may have been forged or mixed up: what it says is taken only where it is what this run would say.
bool ConfigRun::is_of_this_plan(uint64_t position, const TensorRecord& record) const {
  if (!std::binary_search(positions_.begin(), positions_.end(), position)) return false;
  const TensorRecord planned = planned_record(position);
  return record.name == planned.name && record.shape == planned.shape && record.source_type == planned.source_type &&
         record.fate == planned.fate && record.tied_to == planned.tied_to && record.file == planned.file &&
         record.type == planned.type && record.depth == planned.depth;
}

bool ConfigRun::is_intact(uint64_t position, const JournalEntry& entry) const {
  if (!is_of_this_plan(position, entry.record)) return false;
  const SourceTensor& tensor = model_.tensors[position];
  if (entry.record.source_checksum != checksum_and_release(tensor.bytes)) {
    throw Error(ErrorCode::kConflict, tensor.place, "changed since the unfinished run in the output folder read it",
                "restore the source, or discard that run's work (options.output.fresh)");
  }
  if (packed_.writer && entry.record.checksum != stored_checksum(entry.record)) return false;
  if (!plain_.writer || entry.record.fate == Fate::kTied) return true;
  Checksum checksum;
  plain_.writer->add_to_checksum(entry.record.name, checksum);
  return checksum.hex() == entry.plain_checksum;
}

std::string ConfigRun::stored_checksum(const TensorRecord& record) const {
  if (record.fate == Fate::kTied) return "";
  Checksum checksum;
  for (const std::string& name : stored_names(record)) packed_.writer->add_to_checksum(name, checksum);
  return checksum.hex();
}

std::vector<float> ConfigRun::stored_matrix(uint64_t position) const {
  const SourceTensor& tensor = model_.tensors[position];
  const codec::MatrixShape shape = codec_shape(tensor);
  std::vector<float> weights(shape.weights());
  if (!packed_.writer) {
    const std::vector<std::byte> halves = plain_.writer->read(tensor.name);
    read_float32({.name = tensor.name, .shape = tensor.shape, .type = ElementType::kF16, .bytes = halves, .place = tensor.place}, 0,
                 weights);
    return weights;
  }
  const std::vector<std::byte> trits = packed_.writer->read(trits_name(tensor.name)),
                               scales = packed_.writer->read(scales_name(tensor.name)),
                               codebook = packed_.writer->read(codebook_name(tensor.name));
  TernaryMatrix matrix;
  matrix.shape = shape;
  matrix.depth = plans_[position].depth;
  matrix.trits = {reinterpret_cast<const uint8_t*>(trits.data()), trits.size()};
  matrix.scales = {reinterpret_cast<const uint8_t*>(scales.data()), scales.size()};
  matrix.codebooks.resize(shape.codebooks());
  std::memcpy(matrix.codebooks.data(), codebook.data(), codebook.size());
  std::vector<int8_t> codes(shape.groups() * codec::kGroupSize);
  std::vector<uint8_t> scale_codes(shape.groups());
  decode_rows(matrix, 0, shape.rows, 0, shape.groups_per_row(), codes.data(), scale_codes.data());
  std::vector<float> padded(codes.size());
  codec::for_codebooks(shape, 0, shape.groups(), [&](size_t index, uint64_t first, size_t count) {
    codec::FloatDecoder(matrix.codebooks[index], matrix.depth)
        .decode(codes.data() + first * codec::kGroupSize, scale_codes.data() + first, count,
                padded.data() + first * codec::kGroupSize);
  });
  codec::strip_padding(shape, 0, shape.groups(), padded.data(), weights.data());
  return weights;
}

void ConfigRun::record(uint64_t position, const std::string& source_checksum, const codec::MatrixStats* stats,
                       const std::optional<PlainError>& plain_error) {
  JournalEntry entry{planned_record(position), "", plain_error};
  TensorRecord& record = entry.record;
  record.source_checksum = source_checksum;
  if (record.fate != Fate::kTied) {
    // Without a packed folder there are no stored bytes; the source's checksum takes their place.
    record.checksum = packed_.writer ? stored_checksum(record) : source_checksum;
    if (plain_.writer) {
      Checksum checksum;
      plain_.writer->add_to_checksum(record.name, checksum);
      entry.plain_checksum = checksum.hex();
    }
  }
  if (record.fate == Fate::kTernary) record.error = error_stats(*stats);
  journal_->add(position, std::move(entry));
}

Manifest ConfigRun::make_manifest() const {
  Manifest manifest;
  manifest.tool_version = TRITLLM_VERSION;
  manifest.recipe = name_;
  manifest.fingerprint = fingerprint_;
  manifest.source_name = card_.base_model.value_or(card_.source_name);
  manifest.source_kind = model_.kind;
  manifest.card = card_;
  std::vector<TensorRecord> tensors;
  for (const uint64_t position : positions_) tensors.push_back(journal_->entries().at(position).record);
  set_tensors(manifest, std::move(tensors));
  if (request_.part) manifest.part = PartOfModel{request_.part->index, request_.part->count, model_.tensors.size(), positions_};
  return manifest;
}

Manifest ConfigRun::publish() {
  Manifest manifest = make_manifest();
  // The former report goes first: it must never describe folders that it was not written for.
  if (!request_.part) remove_file(report_path_);
  if (packed_.writer) finish_packed_folder(*packed_.writer, manifest, model_.config, model_.side_files);
  if (plain_.writer) finish_plain_folder(*plain_.writer, manifest, model_.config, model_.side_files);
  return manifest;
}

void ConfigRun::close(const std::optional<Json>& report) {
  if (report) write_file_atomically(report_path_, json_text(*report));
  discard_leftovers();
  complete_ = true;
}

void ConfigRun::discard_leftovers() {
  discard_unfinished(packed_);
  discard_unfinished(plain_);
  remove_file(journal_path_);
  sync_folder(folder_);
}

Json ConfigRun::read_report() const {
  constexpr uint64_t kLargestReport = uint64_t{64} << 20;
  return parse_json(read_text_file(report_path_, kLargestReport), report_path_.string());
}

FolderBytes ConfigRun::folder_bytes() const noexcept {
  return {packed_.wanted ? packed_.plan.weight_bytes() : 0, plain_.wanted ? plain_.plan.weight_bytes() : 0};
}

}  // namespace tritllm
