#include "tasks/quantize_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "io/hf_folder.h"
#include "io/mapped_file.h"
#include "io/model_location.h"
#include "kernels/kernel_table.h"
#include "model/families.h"
#include "tasks/calibration_job.h"
#include "tasks/exact_job.h"
#include "tasks/model_calibration.h"
#include "tasks/quantize_command.h"
#include "tasks/report.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kFixedMemory = uint64_t{64} << 20;  // program, stacks, JSON documents
constexpr double kSecondsBetweenSyncs = 5.0;
constexpr double kWarnedLoss = 1.0;  // dB

std::string part_suffix(const OutputRequest& output) {
  return output.part ? fmt::format("-{}-of-{}", output.part->index, output.part->count) : "";
}

// The tensors of a part: consecutive, with about equal numbers of weights.
std::vector<uint64_t> positions_of(const ModelSource& model, const std::optional<Part>& part) {
  std::vector<uint64_t> positions(model.tensors.size());
  std::iota(positions.begin(), positions.end(), uint64_t{0});
  if (!part) return positions;
  double total = 0, before = 0;
  for (const SourceTensor& tensor : model.tensors) total += static_cast<double>(tensor.elements());
  std::vector<uint64_t> mine;
  for (const uint64_t position : positions) {
    const auto weights = static_cast<double>(model.tensors[position].elements());
    const double middle = total > 0 ? (before + weights / 2) / total : 0.0;
    before += weights;
    const auto index = static_cast<uint64_t>(middle * static_cast<double>(part->count)) + 1;
    if (std::min(index, part->count) == part->index) mine.push_back(position);
  }
  return mine;
}

// OUT may hold the source, as a project's folder does; OUT and OUT/CONFIG may not be the source. ConfigRun::look() checks the
// folders below.
void refuse_output_that_is_source(const QuantizeOptions& options, const fs::path& source) {
  const auto refuse_same = [&](const fs::path& folder) {
    if (!same_file(folder, source)) return;
    throw Error(ErrorCode::kConflict, folder.string(), "the output folder is the source",
                "choose another folder (options.output.folder)");
  };
  refuse_same(options.output.folder);
  for (const codec::Config config : options.configs) refuse_same(options.output.folder / codec::config_name(config));
}

[[noreturn]] void refuse_memory(uint64_t least, uint64_t allowed) {
  throw Error(ErrorCode::kUsage, "options.max_memory",
              fmt::format("this model needs at least {} MiB, allowed are {} MiB", (least >> 20) + 1, allowed >> 20));
}

// The files beside the weights are kept in memory: too many of them are refused before they are read.
void require_memory_for_side_files(const QuantizeOptions& options) {
  const fs::path found = locate_model(options.model);
  if (kind_of_target(found) != FileKind::kFolder) return;
  if (const uint64_t least = kFixedMemory + side_file_bytes(found); least > options.max_memory)
    refuse_memory(least, options.max_memory);
}

class QuantizeRun {
 public:
  explicit QuantizeRun(const QuantizeOptions& options)
      : options_(options),
        model_(open_checked_model(options)),
        sources_({model_.path}),
        calibration_(model_, options,
                     {.between_parts = [this] { stop_where_asked(); },
                      .begin_part = [this](const std::string& name) { progress_.begin_tensor(name); }}),
        progress_(options.output.folder / fmt::format("progress{}.json", part_suffix(options.output)), options.on_progress) {
    positions_ = positions_of(model_, options.output.part);
    for (const codec::Config config : options.configs) {
      const auto same = [&](const ConfigRun& run) { return run.config() == config; };
      if (std::any_of(runs_.begin(), runs_.end(), same)) continue;
      runs_.emplace_back(model_, sources_, options.output, config, plan_tensors(model_, options.policy, codec::usual_depth(config)),
                         positions_, card_facts(model_, command_options(options, config), options.card),
                         options.policy.description() + calibration_.description(config));
    }
    choose_threads();
  }

  Json plan();
  std::vector<ConfigResult> run();

 private:
  static ModelSource open_checked_model(const QuantizeOptions& options) {
    require_memory_for_side_files(options);
    ModelSource model = open_model(options.model);
    refuse_output_that_is_source(options, model.path);
    return model;
  }

  bool is_to_be_calibrated(const ConfigRun& run) const noexcept { return !run.complete() && calibrates(run.config()); }
  void prepare_calibration(ThreadPool& pool);
  void calibrate_layers(ThreadPool& pool);
  uint64_t weights_counted_twice() const;
  void count_calibrated(uint64_t position);
  uint64_t side_memory() const;
  uint64_t least_memory(unsigned threads) const;
  uint64_t peak_memory() const;
  void choose_threads();
  size_t configs_at_once(const SourceTensor& tensor) const;
  uint64_t total_weights() const;
  uint64_t bytes_to_write() const;
  void check_disk_space() const;
  void check_former_results(ThreadPool& pool) const;
  std::vector<FileLock> lock_output() const;
  uint64_t weights_to_search() const;
  void find_exact_forms(ThreadPool& pool);
  void find_beyond_half(ThreadPool& pool);
  void warn_of_plain_losses(const ConfigRun& run, const Manifest& manifest) const;
  void start_progress();
  std::vector<ConfigResult> make_results(ThreadPool& pool);
  void process(uint64_t position, ThreadPool& pool);
  void quantize_tensor(uint64_t position, const std::vector<size_t>& wanting, const std::string& checksum, ThreadPool& pool);
  void sync_now_and_then();
  void stop_where_asked() const {
    if (options_.should_stop()) throw Interrupted(options_.output.folder);
  }

  const QuantizeOptions& options_;
  ModelSource model_;
  Sources sources_;
  std::vector<uint64_t> positions_;
  std::vector<ConfigRun> runs_;
  std::map<uint64_t, codec::ExactForm> exact_forms_;  // by position; there is one configuration of recipe exact
  ModelCalibration calibration_;
  std::set<uint64_t> calibrated_;  // positions that progress has counted
  size_t calibrated_together_ = 1;
  unsigned threads_ = 1;
  RunProgress progress_;
  double last_sync_ = 0;  // second of the run
  std::vector<RunCost> costs_;
};

// What can be refused is refused before the first byte is written. Depths have to be known before the output is planned.
void QuantizeRun::prepare_calibration(ThreadPool& pool) {
  if (std::ranges::none_of(runs_, [&](const ConfigRun& run) { return is_to_be_calibrated(run); })) return;
  calibration_.prepare(side_memory() + threads_ * thread_memory({}));
  for (ConfigRun& run : runs_) {
    if (is_to_be_calibrated(run) && mixes_depths(run.config())) calibration_.choose_depths(run, positions_, pool);
  }
}

void QuantizeRun::calibrate_layers(ThreadPool& pool) {
  std::deque<CalibrationSink> sinks;
  for (size_t i = 0; i < runs_.size(); ++i) {
    if (!is_to_be_calibrated(runs_[i]) || !calibration_.lacks_any(runs_[i], positions_)) continue;
    sinks.emplace_back(model_, runs_[i], costs_[i], pool, [this](uint64_t position) { count_calibrated(position); });
  }
  calibrated_together_ = sinks.size();
  std::vector<CalibratedOutput*> outputs;
  for (CalibrationSink& sink : sinks) outputs.push_back(&sink);
  calibration_.make_layers(outputs, pool);
}

// Calibration counts the matrices that it makes. Where other configurations want them too, the loop over tensors counts them again.
uint64_t QuantizeRun::weights_counted_twice() const {
  if (std::ranges::all_of(runs_, [&](const ConfigRun& run) { return run.complete() || calibrates(run.config()); })) return 0;
  uint64_t weights = 0;
  for (const uint64_t position : positions_) {
    const auto is_calibrated = [&](const ConfigRun& run) { return is_to_be_calibrated(run) && calibration_.makes(run, position); };
    if (std::ranges::any_of(runs_, is_calibrated)) weights += model_.tensors[position].elements();
  }
  return weights;
}

// A tensor counts once, however many configurations there are.
void QuantizeRun::count_calibrated(uint64_t position) {
  const SourceTensor& tensor = model_.tensors[position];
  progress_.begin_tensor(tensor.name);
  progress_.count(tensor.elements() / calibrated_together_);
  calibrated_.insert(position);
  sync_now_and_then();
}

uint64_t QuantizeRun::side_memory() const {
  uint64_t bytes = kFixedMemory + model_.card.size();
  for (const SideFile& file : model_.side_files) bytes += file.contents.size();
  return bytes;
}

// For the largest matrix, with one configuration at work on it.
uint64_t QuantizeRun::least_memory(unsigned threads) const {
  uint64_t largest = threads * thread_memory({});
  for (const uint64_t position : positions_) {
    if (runs_.front().plan(position).fate != Fate::kTernary) continue;
    const codec::MatrixShape shape = codec_shape(model_.tensors[position]);
    largest = std::max(largest, matrix_memory(shape, 1) + threads * thread_memory(shape));
  }
  return side_memory() + largest;
}

// With as many configurations at work on each matrix as run() works on.
uint64_t QuantizeRun::peak_memory() const {
  uint64_t largest = threads_ * thread_memory({});
  for (const uint64_t position : positions_) {
    const SourceTensor& tensor = model_.tensors[position];
    const auto quantises = [position](const ConfigRun& run) {
      return !run.complete() && run.plan(position).fate == Fate::kTernary;
    };
    const auto pending = static_cast<size_t>(std::ranges::count_if(runs_, quantises));
    if (pending == 0) continue;
    const codec::MatrixShape shape = codec_shape(tensor);
    const size_t at_once = std::min(pending, configs_at_once(tensor));
    largest = std::max(largest, matrix_memory(shape, at_once) + threads_ * thread_memory(shape));
  }
  return side_memory() + largest;
}

// As many threads as memory allows; one configuration at a time is the least that can be worked on.
void QuantizeRun::choose_threads() {
  threads_ = options_.threads != 0 ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
  if (const uint64_t least = least_memory(1); options_.max_memory < least) refuse_memory(least, options_.max_memory);
  while (threads_ > 1 && least_memory(threads_) > options_.max_memory) --threads_;
}

size_t QuantizeRun::configs_at_once(const SourceTensor& tensor) const {
  const codec::MatrixShape shape = codec_shape(tensor);
  const uint64_t others = side_memory() + threads_ * thread_memory(shape);
  size_t configs = runs_.size();
  while (configs > 1 && others + matrix_memory(shape, configs) > options_.max_memory) --configs;
  return configs;
}

uint64_t QuantizeRun::total_weights() const {
  uint64_t weights = 0;
  for (const uint64_t position : positions_) weights += model_.tensors[position].elements();
  return weights;
}

uint64_t QuantizeRun::bytes_to_write() const {
  uint64_t bytes = 0;
  for (const ConfigRun& run : runs_) bytes += run.bytes_to_write();
  return bytes;
}

void QuantizeRun::check_disk_space() const {
  uint64_t needed = 0;
  for (const ConfigRun& run : runs_) needed += run.bytes_to_allocate();
  require_free_disk(options_.output.folder, needed,
                    "free some space, or ask for fewer results (options.configs, options.output.emit_model)");
}

// Results that are there already must be whole, and of the same weights: a fingerprint knows only the source's structure.
void QuantizeRun::check_former_results(ThreadPool& pool) const {
  if (std::none_of(runs_.begin(), runs_.end(), [](const ConfigRun& run) { return run.has_former_results(); })) return;
  std::vector<TensorRecord> records(positions_.size());
  pool.parallel_for(positions_.size(), [&](size_t i, unsigned) {
    stop_where_asked();
    const SourceTensor& tensor = model_.tensors[positions_[i]];
    records[i].name = tensor.name;
    records[i].shape = tensor.shape;
    records[i].source_type = layout_of(tensor.type).name;
    records[i].source_checksum = checksum_and_release(tensor.bytes);
  });
  const std::string digest = source_digest(records);
  for (const ConfigRun& run : runs_) {
    for (const std::string& name : run.check_former_results(digest, pool))
      options_.on_warning(fmt::format("{} was changed since it was made", name));
  }
}

// Matrices that are searched for their ternary form before anything is written.
uint64_t QuantizeRun::weights_to_search() const {
  uint64_t weights = 0;
  for (const ConfigRun& run : runs_) {
    if (run.complete() || run.config().recipe != codec::Recipe::kExact) continue;
    for (const uint64_t position : positions_) {
      if (run.plan(position).fate == Fate::kTernary) weights += model_.tensors[position].elements();
    }
  }
  return weights;
}

// Depths have to be known before the output is planned. Goes through all matrices, so that one error names all that are not
// ternary.
void QuantizeRun::find_exact_forms(ThreadPool& pool) {
  for (ConfigRun& run : runs_) {
    if (run.complete() || run.config().recipe != codec::Recipe::kExact) continue;
    std::map<uint64_t, int> depths;
    std::optional<std::pair<uint64_t, codec::ExactMisfit>> first_misfit;
    std::vector<std::string> others;
    uint64_t negative_zeros = 0;
    for (const uint64_t position : positions_) {
      if (run.plan(position).fate != Fate::kTernary) continue;
      const SourceTensor& tensor = model_.tensors[position];
      progress_.begin_tensor(tensor.name);
      codec::ExactResult result = find_exact_form(tensor, run.plan(position).depth, pool, [&](uint64_t) { stop_where_asked(); });
      progress_.end_search(tensor.elements());
      if (result.form) {
        depths[position] = result.form->depth;
        negative_zeros += result.form->negative_zeros;
        exact_forms_[position] = std::move(*result.form);
      } else if (first_misfit) {
        others.push_back(printable(tensor.name));
      } else {
        first_misfit.emplace(position, result.misfit);
      }
    }
    if (first_misfit) throw not_ternary(model_.tensors[first_misfit->first], first_misfit->second, others);
    if (negative_zeros > 0) options_.on_warning(fmt::format("{} weights are -0 in the source; trits give +0 back", negative_zeros));
    run.set_depths(depths);
  }
}

// What FP16 cannot hold is refused where an FP16 folder was asked for, and kept in a wider type where it was not.
void QuantizeRun::find_beyond_half(ThreadPool& pool) {
  for (ConfigRun& run : runs_) {
    if (run.complete() || run.wants_model()) continue;
    std::set<uint64_t> beyond;
    for (const uint64_t position : positions_) {
      stop_where_asked();
      if (run.plan(position).fate == Fate::kKept && is_beyond_half(model_.tensors[position], pool)) beyond.insert(position);
    }
    if (!beyond.empty()) run.set_beyond_half(beyond);
  }
}

// Small weights lose more to FP16 than to the codec, and nothing else says so.
void QuantizeRun::warn_of_plain_losses(const ConfigRun& run, const Manifest& manifest) const {
  const std::map<std::string, PlainError> errors = run.plain_errors();
  for (const TensorRecord& record : manifest.tensors) {
    const auto found = errors.find(record.name);
    if (found == errors.end() || !is_plain_loss(record, found->second, kWarnedLoss)) continue;
    options_.on_warning(fmt::format("{}: '{}' has weights so small that FP16 rounds them away: model/ has {:.1f} dB{}", run.name(),
                                    printable(record.name), codec::sqnr_db_from_relative_mse(found->second.relative_mse()),
                                    record.error.sqnr_db ? fmt::format(", packed/ {:.1f} dB", *record.error.sqnr_db) : ""));
  }
}

void QuantizeRun::start_progress() {
  std::vector<std::string> names;
  for (const ConfigRun& run : runs_) names.push_back(run.name());
  progress_.start(std::move(names), positions_.size(), total_weights() + weights_to_search() + weights_counted_twice());
}

Json QuantizeRun::plan() {
  if (std::ranges::any_of(runs_, [](const ConfigRun& run) { return mixes_depths(run.config()); })) {
    throw Error(ErrorCode::kUnsupported, "options.configs", "the depths of 'calibrated' are known after calibration only",
                "ask for the plan of another configuration; the size will be the one that is asked for");
  }
  for (ConfigRun& run : runs_) run.look();
  ThreadPool pool(threads_);
  find_exact_forms(pool);
  find_beyond_half(pool);
  Json configs = Json::array();
  const TensorRoles roles(model_.config);
  for (const ConfigRun& run : runs_) {
    std::vector<TensorRecord> records;
    Json tensors = Json::array();
    uint64_t ternary = 0;
    for (const uint64_t position : positions_) {
      const SourceTensor& tensor = model_.tensors[position];
      TensorRecord record;
      record.shape = tensor.shape;
      record.fate = run.plan(position).fate;
      record.depth = run.plan(position).depth;
      if (record.fate == Fate::kTernary) ternary += tensor.elements();
      tensors.push_back({{"name", tensor.name},
                         {"shape", tensor.shape},
                         {"type", layout_of(tensor.type).name},
                         {"role", role_name(roles.of(tensor))},
                         {"fate", fate_name(record.fate)},
                         {"depth", record.depth}});
      records.push_back(std::move(record));
    }
    const BitsPerWeight bits = bits_per_weight(records);
    configs.push_back({{"config", run.name()},
                       {"complete", run.complete()},
                       {"weights", ternary},
                       {"nominal_bits_per_weight", bits.nominal},
                       {"stored_bits_per_weight", bits.stored},
                       {"packed_bytes", run.folder_bytes().packed},
                       {"bytes_to_write", run.bytes_to_write()},
                       {"tensors", std::move(tensors)}});
  }
  double thread_seconds = 0;
  for (size_t i = 0; i < runs_.size(); ++i) {
    if (runs_[i].complete()) continue;
    const double rate = codec::recipe_row(runs_[i].config().recipe).weights_per_second;
    thread_seconds += configs[i]["weights"].get<double>() / rate;
  }
  Json warnings = model_.warnings;
  for (const std::string& warning : model_.quantising_warnings) warnings.push_back(warning);
  const auto list = model_.config->find("architectures");
  const bool has_name = list != model_.config->end() && list->is_array() && !list->empty() && (*list)[0].is_string();
  const std::string architecture = has_name ? (*list)[0].get<std::string>() : "";
  return {{"model", model_.path.string()},      {"kind", model_.kind},
          {"architecture", architecture},       {"engine_runs_it", family_of_config(model_.config) != nullptr},
          {"warnings", std::move(warnings)},    {"tensors", positions_.size()},
          {"all_weights", total_weights()},     {"threads", threads_},
          {"memory_bytes", peak_memory()},      {"memory_limit_bytes", options_.max_memory},
          {"bytes_to_write", bytes_to_write()}, {"estimated_seconds", thread_seconds / threads_},
          {"configs", std::move(configs)}};
}

// Parts of one model may be made side by side; each of them, and a run over the whole model, only once at a time.
std::vector<FileLock> QuantizeRun::lock_output() const {
  const fs::path& folder = options_.output.folder;
  const bool is_part = options_.output.part.has_value();
  std::vector<FileLock> locks;
  const auto acquire = [&](const std::string& name, FileLock::Kind kind) {
    locks.push_back(FileLock::acquire(folder / name, kind, folder));
  };
  acquire(".lock", is_part ? FileLock::Kind::kShared : FileLock::Kind::kExclusive);
  if (is_part) acquire(".lock" + part_suffix(options_.output), FileLock::Kind::kExclusive);
  return locks;
}

std::vector<ConfigResult> QuantizeRun::run() {
  for (const std::string& warning : model_.warnings) options_.on_warning(warning);
  for (const std::string& warning : model_.quantising_warnings) options_.on_warning(warning);
  create_folders(options_.output.folder);
  // Locked before anything there is looked at: another run may just be giving its results their names.
  const std::vector<FileLock> locks = lock_output();
  for (ConfigRun& run : runs_) {
    run.recover();
    run.look();
  }
  start_progress();
  ThreadPool pool(threads_);
  try {
    check_former_results(pool);
    find_exact_forms(pool);
    find_beyond_half(pool);
    prepare_calibration(pool);
    check_disk_space();
    return make_results(pool);
  } catch (const Interrupted&) {
    progress_.ended("interrupted");
    throw;
  } catch (...) {
    progress_.ended("failed");
    throw;
  }
}

std::vector<ConfigResult> QuantizeRun::make_results(ThreadPool& pool) {
  costs_.assign(runs_.size(), RunCost{.threads = threads_});
  std::vector<bool> was_complete;
  for (ConfigRun& run : runs_) {
    was_complete.push_back(run.complete());
    if (run.complete()) run.discard_leftovers();
    else run.begin(pool);
  }
  calibrate_layers(pool);
  for (const uint64_t position : positions_) process(position, pool);

  std::vector<ConfigResult> results;
  for (size_t i = 0; i < runs_.size(); ++i) {
    std::optional<Json> report;
    if (!was_complete[i]) {
      const Manifest manifest = runs_[i].publish();
      costs_[i].seconds = progress_.seconds();
      warn_of_plain_losses(runs_[i], manifest);
      if (!options_.output.part) report = report_json(manifest, costs_[i], runs_[i].folder_bytes(), runs_[i].plain_errors());
      if (report) (*report)["kept_embeddings"] = kept_embeddings(manifest, *model_.config, runs_[i].folder_bytes().packed);
      runs_[i].close(report);
    } else if (!options_.output.part) {
      report = runs_[i].read_report();
    }
    results.push_back({runs_[i].name(), was_complete[i], report.value_or(nullptr)});
  }
  progress_.done();
  return results;
}

void QuantizeRun::process(uint64_t position, ThreadPool& pool) {
  const SourceTensor& tensor = model_.tensors[position];
  stop_where_asked();
  progress_.begin_tensor(tensor.name);
  std::vector<size_t> wanting;
  for (size_t i = 0; i < runs_.size(); ++i) {
    if (!runs_[i].complete() && !runs_[i].has(position)) wanting.push_back(i);
  }
  if (wanting.empty() && calibrated_.contains(position)) return progress_.end_tensor(0);
  if (wanting.empty()) {
    progress_.skip(tensor.elements());
  } else {
    quantize_tensor(position, wanting, checksum_and_release(tensor.bytes), pool);
    sync_now_and_then();
  }
  progress_.end_tensor(tensor.elements());
}

// Configurations that keep the tensor and those that quantise it, the latter as many at a time as memory allows.
void QuantizeRun::quantize_tensor(uint64_t position, const std::vector<size_t>& wanting, const std::string& checksum,
                                  ThreadPool& pool) {
  const SourceTensor& tensor = model_.tensors[position];
  std::vector<size_t> ternary, kept;
  for (const size_t i : wanting) (runs_[i].plan(position).fate == Fate::kTernary ? ternary : kept).push_back(i);
  const double share = 1.0 / static_cast<double>(ternary.size() + (kept.empty() ? 0 : 1));
  double counted = 0;
  const auto on_weights = [&](uint64_t weights) {
    stop_where_asked();
    counted += share * static_cast<double>(weights);
    const auto whole = static_cast<uint64_t>(counted);
    counted -= static_cast<double>(whole);
    progress_.count(whole);
  };
  if (!kept.empty()) {
    std::vector<TensorSinks> sinks;
    for (const size_t i : kept) {
      if (runs_[i].plan(position).fate == Fate::kKept) sinks.push_back(runs_[i].sinks());
    }
    std::optional<PlainError> plain_error;
    const ElementType type = kept_type(tensor.type, runs_[kept.front()].plan(position).is_beyond_half);
    if (!sinks.empty()) plain_error = copy_kept_tensor(tensor, type, sinks, pool, on_weights);
    for (const size_t i : kept) runs_[i].record(position, checksum, nullptr, plain_error);
  }
  const size_t at_once = configs_at_once(tensor);
  for (size_t begin = 0; begin < ternary.size(); begin += at_once) {
    const size_t end = std::min(ternary.size(), begin + at_once);
    std::vector<MatrixTarget> targets;
    for (size_t k = begin; k < end; ++k) {
      const ConfigRun& run = runs_[ternary[k]];
      const bool is_exact = run.config().recipe == codec::Recipe::kExact;
      targets.push_back(
          {{run.config().recipe, run.plan(position).depth}, run.sinks(), is_exact ? &exact_forms_.at(position) : nullptr});
    }
    const auto batch_weights = [&](uint64_t weights) { on_weights(weights * (end - begin)); };
    const auto results = quantize_matrix(tensor, targets, *kernels::active_table().groups, pool, batch_weights);
    for (size_t k = begin; k < end; ++k) {
      const MatrixResult& result = results[k - begin];
      costs_[ternary[k]].thread_seconds += result.thread_seconds;
      costs_[ternary[k]].quantised_weights += result.stats.weights;
      runs_[ternary[k]].record(position, checksum, &result.stats, result.plain);
    }
  }
}

// Bounds what a power cut can cost; a killed process loses nothing that it wrote.
void QuantizeRun::sync_now_and_then() {
  if (progress_.seconds() - last_sync_ < kSecondsBetweenSyncs) return;
  for (const ConfigRun& run : runs_) {
    const TensorSinks sinks = run.sinks();
    if (sinks.packed != nullptr) sinks.packed->sync_weights();
    if (sinks.plain != nullptr) sinks.plain->sync_weights();
  }
  last_sync_ = progress_.seconds();
}

}  // namespace

std::vector<ConfigResult> quantize_model(const QuantizeOptions& options) { return QuantizeRun(options).run(); }

Json plan_quantization(const QuantizeOptions& options) { return QuantizeRun(options).plan(); }

}  // namespace tritllm
