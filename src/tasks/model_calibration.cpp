#include "tasks/model_calibration.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>

#include "backend/cpu/backend.h"
#include "backend/cuda/devices.h"
#include "backend/device.h"
#include "calibration/host_algebra.h"
#include "core/error.h"
#include "core/printable.h"
#include "io/decoder_tensors.h"
#include "kernels/kernel_table.h"
#include "model/families.h"

namespace tritllm {

namespace {

constexpr double kBitsThatDoNotFit = 0.002;

// Text that the model wrote itself is less like what it will read.
double damping_of(const CalibrationText& text) { return text.is_own() ? 0.05 : 0.03; }

// Vectors of hundreds of megabytes come and go by the second. Each time the system would clear their pages, which took as long as
// everything else together.
void keep_freed_memory() {
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, -1);
}

}  // namespace

bool calibrates(codec::Config config) noexcept { return codec::recipe_row(config.recipe).calibrates; }

bool mixes_depths(codec::Config config) noexcept { return calibrates(config) && config.depth == codec::kDepthOfMatrix; }

ModelCalibration::ModelCalibration(const ModelSource& model, const QuantizeOptions& options, Hooks hooks)
    : model_(model), options_(options), hooks_(std::move(hooks)) {
  check_options();
  if (std::ranges::none_of(options.configs, calibrates)) return;
  if (family_of_config(model.config) == nullptr) {
    throw Error(ErrorCode::kUnsupported, "options.configs", "the engine does not run this model, so it cannot be calibrated",
                fmt::format("choose another recipe; the engine runs {}", supported_architectures()));
  }
  config_ = read_model_config(model.config, model.path.string());
  if (config_->family->norms_inside_blocks || config_->rounds_activations) {
    throw Error(ErrorCode::kUnsupported, "options.configs",
                "calibrated recipes do not know how a model of this family feels errors",
                "a model that is ternary by birth is kept exactly by the recipe 'exact'");
  }
  for_each_tensor(config_->decoder_shape(), [&](const DecoderTensor& tensor) {
    if (tensor.layer && tensor.role == DecoderRole::kMatrix) layer_matrices_.insert(tensor.name);
  });
  choose_device();
}

void ModelCalibration::choose_device() {
  cuda_ = cuda_device(options_.device, calibration_device_memory(*config_, 1));
  const bool is_chosen = options_.device != "auto";
  if (!cuda_ || is_chosen || cuda_algebra_problem().empty()) return;
  options_.on_warning(fmt::format("calibrating on the CPU, for want of cuBLAS: {}", printable(cuda_algebra_problem())));
  cuda_.reset();
}

uint64_t ModelCalibration::free_device_memory() const {
  for (const CudaDevice& device : cuda_ ? find_cuda_devices().devices : std::vector<CudaDevice>()) {
    if (device.index == *cuda_) return device.free_memory;
  }
  return UINT64_MAX;
}

CalibrationDevice ModelCalibration::device(ThreadPool& pool) {
  const kernels::KernelTable& kernels = kernels::active_table();
  if (!backend_) {
    if (cuda_) keep_freed_memory();
    algebra_ = cuda_ ? make_cuda_algebra(*cuda_) : make_host_algebra(*kernels.groups, pool);
    backend_ = cuda_ ? make_cuda_backend(*cuda_, pool) : make_cpu_backend(pool, kernels, Arithmetic::kFloat);
  }
  return {*backend_, *algebra_, kernels, pool};
}

// What no configuration reads is refused, so that nobody waits for an effect of it.
void ModelCalibration::check_options() const {
  const CalibrationText &text = options_.calibration, usual;
  const bool any = std::ranges::any_of(options_.configs, calibrates), mixed = std::ranges::any_of(options_.configs, mixes_depths);
  const auto refuse_unread = [](bool is_given, bool is_read, const char* field, const char* readers) {
    if (!is_given || is_read) return;
    throw Error(ErrorCode::kUsage, field, fmt::format("is read for {} only", readers),
                "leave it out, or choose such a configuration");
  };
  refuse_unread(!text.files.empty(), any, "options.calibration.files", "calibrated recipes");
  refuse_unread(text.sequences != usual.sequences, any, "options.calibration.sequences", "calibrated recipes");
  refuse_unread(text.tokens != usual.tokens, any, "options.calibration.tokens", "calibrated recipes");
  refuse_unread(text.seed != usual.seed, any, "options.calibration.seed", "calibrated recipes");
  refuse_unread(options_.bits.has_value(), mixed, "options.bits", "configuration 'calibrated'");
  refuse_unread(options_.size.has_value(), mixed, "options.size", "configuration 'calibrated'");
  if (mixed && options_.bits.has_value() == options_.size.has_value()) {
    throw Error(ErrorCode::kUsage, "options.bits", "configuration 'calibrated' needs a number of bits or a size",
                "give one of options.bits and options.size, or a depth (calibrated-d2)");
  }
  if (mixed && std::ranges::any_of(options_.policy.rules, [](const DepthRule& rule) { return rule.depth.has_value(); })) {
    throw Error(ErrorCode::kUsage, "options.policy.rules", "configuration 'calibrated' chooses the depths itself",
                "use REGEX=keep alone, or a configuration with a depth");
  }
  if (any && options_.output.part)
    throw Error(ErrorCode::kUsage, "options.output.part", "a calibrated recipe needs the whole model", "quantise it in one run");
  if (any && (text.tokens < 16 || text.sequences < 1))
    throw Error(ErrorCode::kUsage, "options.calibration.tokens", "expected one sequence or more, of 16 tokens or more");
}

std::string ModelCalibration::description(codec::Config config) const {
  std::string text;
  if (calibrates(config)) text += "\n" + tritllm::description(options_.calibration) + (cuda_ ? "\ncomputed by CUDA" : "");
  if (mixes_depths(config))
    text += options_.bits ? fmt::format("\nbits {}", *options_.bits) : fmt::format("\nsize {}", *options_.size);
  return text;
}

uint64_t ModelCalibration::memory(size_t outputs) const noexcept {
  const CalibrationText& text = options_.calibration;
  const uint64_t passes = std::max(calibration_memory(*config_, uint64_t{text.sequences} * text.tokens, outputs),
                                   sensitivity_memory(*config_, text.tokens));
  return other_memory_ + std::max(passes, text.is_own() ? writing_memory(*config_, text) : 0);
}

void ModelCalibration::prepare(uint64_t other_memory) {
  other_memory_ = other_memory;
  if (const uint64_t least = memory(1); least > options_.max_memory) {
    throw Error(
        ErrorCode::kUsage, "options.max_memory",
        fmt::format("calibrating this model with {} sequences of {} tokens needs {} MiB, allowed are {} MiB",
                    options_.calibration.sequences, options_.calibration.tokens, (least >> 20) + 1, options_.max_memory >> 20),
        "allow more, or take fewer sequences (options.calibration.sequences)");
  }
  if (!options_.calibration.is_own()) text_ = read_calibration_text(options_.calibration, model_.path);
}

// The text, and how much each of its tokens counts.
void ModelCalibration::read(ThreadPool& pool) {
  if (weights_) return;
  const CalibrationText& text = options_.calibration;
  if (text.is_own()) {
    hooks_.begin_part("calibration text");
    const std::string device = cuda_ ? fmt::format("cuda:{}", *cuda_) : "cpu";
    text_ = write_calibration_text(text, model_.path, device, pool.threads(), hooks_.between_parts);
  }
  hooks_.begin_part("weights of the text's tokens");
  files_ = open_model_files(model_.path, pool);
  const uint64_t taken = other_memory_ + sensitivity_memory(*config_, text.tokens);
  weights_ = token_weights(*files_, *config_, text_,
                           {.seed = text.seed,
                            .between_parts = hooks_.between_parts,
                            .state_bytes = kLeastStateBytes + options_.max_memory - std::min(options_.max_memory, taken)},
                           device(pool));
}

void ModelCalibration::choose_depths(ConfigRun& run, std::span<const uint64_t> positions, ThreadPool& pool) {
  read(pool);
  hooks_.begin_part("depths");
  std::map<std::string, uint64_t> ternary;
  for (const uint64_t position : positions) {
    if (run.plan(position).fate == Fate::kTernary) ternary.emplace(model_.tensors[position].name, position);
  }
  const std::vector<DepthItem> items = depth_losses(
      *files_, text_, *weights_, damping_of(options_.calibration), [&](const std::string& name) { return ternary.contains(name); },
      hooks_.between_parts, device(pool));
  // Lines that matrices do not fill make a file a little larger than its bits: less is taken until it fits.
  for (double bits = bits_for(run, items);; bits -= kBitsThatDoNotFit) {
    const std::vector<int> chosen = tritllm::choose_depths(items, bits);
    std::map<uint64_t, int> depths;
    for (size_t i = 0; i < items.size(); ++i) {
      for (const std::string& name : items[i].tensors) depths[ternary.at(name)] = chosen[i];
    }
    run.set_depths(depths);
    if (!options_.size || run.folder_bytes().packed <= *options_.size) return;
  }
}

// Where a size is asked for: what it leaves for the layers' matrices.
double ModelCalibration::bits_for(const ConfigRun& run, std::span<const DepthItem> items) const {
  if (options_.bits) return *options_.bits;
  uint64_t weights = 0;
  for (const DepthItem& item : items) weights += item.weights;
  // As planned, every one of them has the largest depth.
  const auto matrices = static_cast<uint64_t>(stored_bits(codec::kMaxDepth) * static_cast<double>(weights) / 8);
  const uint64_t others = run.folder_bytes().packed - std::min(run.folder_bytes().packed, matrices);
  const auto least = others + static_cast<uint64_t>(stored_bits(1) * static_cast<double>(weights) / 8);
  if (*options_.size < least) {
    throw Error(ErrorCode::kUsage, "options.size",
                fmt::format("expected at least {} bytes, found {}: {} bytes are what is not a layer's matrix", least,
                            *options_.size, others),
                "pack embedding and head too (options.policy.embedding_depth), or allow more");
  }
  return static_cast<double>(*options_.size - others) * 8 / static_cast<double>(weights);
}

bool ModelCalibration::makes(const ConfigRun& run, uint64_t position) const {
  return run.plan(position).fate == Fate::kTernary && layer_matrices_.contains(model_.tensors[position].name);
}

bool ModelCalibration::lacks_any(const ConfigRun& run, std::span<const uint64_t> positions) const {
  return std::ranges::any_of(positions, [&](uint64_t position) { return makes(run, position) && !run.has(position); });
}

void ModelCalibration::make_layers(std::span<CalibratedOutput* const> outputs, ThreadPool& pool) {
  if (outputs.empty()) return;
  read(pool);
  const uint64_t device_memory = free_device_memory();
  size_t together = outputs.size();
  while (together > 1 && (memory(together) > options_.max_memory || calibration_device_memory(*config_, together) > device_memory))
    --together;
  CalibrationJob job{.sequences = &text_,
                     .weights = &*weights_,
                     .outputs = {},
                     .conditioning = {.damping = damping_of(options_.calibration)},
                     .between_parts = hooks_.between_parts};
  for (size_t first = 0; first < outputs.size(); first += together) {
    const auto some = outputs.subspan(first, std::min(together, outputs.size() - first));
    job.outputs.assign(some.begin(), some.end());
    for (const std::string& name : calibrate(*files_, job, device(pool))) {
      options_.on_warning(
          fmt::format("'{}': the calibration text does not help here; quantised as by recipe optimal", printable(name)));
    }
  }
}

}  // namespace tritllm
