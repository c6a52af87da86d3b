#include "tasks/matrix_job.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <mutex>

#include "codec/decoder.h"
#include "codec/grouping.h"
#include "core/error.h"
#include "core/half.h"
#include "io/mapped_file.h"
#include "io/packed_checkpoint.h"

namespace tritllm {
namespace {

using Clock = std::chrono::steady_clock;

// One thread's buffers, as large as a stripe.
struct Scratch {
  StripeReader reader;
  codec::EncodedStripe encoded;
  std::vector<uint16_t> padded_halves, halves;
};

template <typename Value>
std::span<const std::byte> bytes_of(const std::vector<Value>& values, size_t count) {
  return std::as_bytes(std::span(values.data(), count));
}

// Adds up what all threads did and reports it from the calling thread.
class Tally {
 public:
  explicit Tally(const OnWeights& on_weights) : on_weights_(on_weights) {}
  void add(uint64_t weights, unsigned worker) {
    waiting_ += weights;
    if (worker == 0) flush();
  }
  void flush() { on_weights_(waiting_.exchange(0)); }

 private:
  const OnWeights& on_weights_;
  std::atomic<uint64_t> waiting_{0};
};

class MatrixJob {
 public:
  MatrixJob(const SourceTensor& tensor, std::span<const MatrixTarget> targets, const codec::GroupKernels& kernels, ThreadPool& pool,
            const OnWeights& on_weights)
      : tensor_(tensor),
        shape_(codec_shape(tensor)),
        stripes_(shape_),
        targets_(targets),
        pool_(pool),
        tally_(on_weights),
        scratch_(pool.threads()),
        results_(targets.size()) {
    for (const MatrixTarget& target : targets) {
      if (target.sinks.plain != nullptr) largest_weight_ = kLargestHalf;
      plain_errors_.emplace_back(target.sinks.plain != nullptr ? stripes_.size() : 0);
      if (target.exact != nullptr) quantizers_.emplace_back(*target.exact, shape_, kernels);
      else if (target.chosen != nullptr) quantizers_.emplace_back(target.config, *target.chosen, shape_, kernels);
      else quantizers_.emplace_back(target.config, shape_, kernels);
    }
  }

  std::vector<MatrixResult> run() {
    if (std::ranges::any_of(quantizers_, &codec::MatrixQuantizer::collects_scales))
      pool_.parallel_for(stripes_.size(), [&](size_t stripe, unsigned worker) { collect_scales(stripe, worker); });
    for (size_t i = 0; i < targets_.size(); ++i) choose_codebooks(i);
    pool_.parallel_for(stripes_.size(), [&](size_t stripe, unsigned worker) { encode(stripe, worker); });
    tally_.flush();
    for (size_t i = 0; i < targets_.size(); ++i) {
      results_[i].stats = quantizers_[i].stats();
      if (targets_[i].sinks.plain == nullptr) continue;
      results_[i].plain.emplace();
      for (const PlainError& stripe : plain_errors_[i]) results_[i].plain->add(stripe);
    }
    return std::move(results_);
  }

 private:
  void collect_scales(size_t index, unsigned worker) {
    const float* const groups = scratch_[worker].reader.read(tensor_, stripes_[index], largest_weight_);
    for (size_t i = 0; i < targets_.size(); ++i) {
      if (quantizers_[i].collects_scales()) timed(i, [&] { quantizers_[i].collect_scales(index, groups); });
    }
    tally_.add(0, worker);
  }

  void choose_codebooks(size_t i) {
    const auto read_group = [&](uint64_t group, float* out) {
      const codec::WeightRange range = codec::weights_in_groups(shape_, group, 1);
      std::fill_n(out, codec::kGroupSize, 0.0f);
      read_float32(tensor_, range.first, {out, range.count});
    };
    const auto loop = [&](size_t count, const std::function<void(size_t)>& body) {
      pool_.parallel_for(count, [&](size_t index, unsigned) { timed(i, [&] { body(index); }); });
    };
    quantizers_[i].choose_codebooks(read_group, loop);
    release_pages(tensor_.bytes);
    if (const FolderWriter* packed = targets_[i].sinks.packed) {
      packed->write(codebook_name(tensor_.name), 0, std::as_bytes(quantizers_[i].codebooks()));
    }
  }

  void encode(size_t index, unsigned worker) {
    Scratch& scratch = scratch_[worker];
    const codec::Stripe stripe = stripes_[index];
    const float* const groups = scratch.reader.read(tensor_, stripe, largest_weight_);
    for (size_t i = 0; i < targets_.size(); ++i) {
      timed(i, [&] { quantizers_[i].encode(index, groups, scratch.encoded); });
      if (targets_[i].sinks.packed != nullptr) write_packed(*targets_[i].sinks.packed, stripe, scratch.encoded);
      if (targets_[i].sinks.plain != nullptr) write_plain(i, index, groups, scratch);
    }
    tally_.add(codec::weights_in_groups(shape_, stripe.first_group, stripe.groups).count, worker);
  }

  void write_packed(const FolderWriter& packed, const codec::Stripe& stripe, const codec::EncodedStripe& encoded) const {
    for (size_t plane = 0; plane < encoded.planes.size(); ++plane) {
      packed.write(trits_name(tensor_.name), (plane * shape_.lines() + stripe.first_line()) * codec::kGroupSize,
                   bytes_of(encoded.planes[plane], encoded.planes[plane].size()));
    }
    packed.write(scales_name(tensor_.name), stripe.first_line() * codec::kScaleTrits,
                 bytes_of(encoded.scales, encoded.scales.size()));
  }

  void write_plain(size_t target, size_t index, const float* groups, Scratch& scratch) {
    const codec::Stripe stripe = stripes_[index];
    const codec::WeightRange range = codec::weights_in_groups(shape_, stripe.first_group, stripe.groups);
    scratch.padded_halves.resize(stripe.groups * codec::kGroupSize);
    scratch.halves.resize(range.count);
    codec::for_codebooks(shape_, stripe.first_group, stripe.groups, [&](size_t codebook, uint64_t first, size_t count) {
      const auto offset = static_cast<size_t>(first - stripe.first_group);
      codec::HalfDecoder(quantizers_[target].codebooks()[codebook], targets_[target].config.depth)
          .decode(scratch.encoded.codes.data() + offset * codec::kGroupSize, scratch.encoded.scale_codes.data() + offset, count,
                  scratch.padded_halves.data() + offset * codec::kGroupSize);
    });
    PlainError& error = plain_errors_[target][index];
    for (size_t k = 0; k < scratch.padded_halves.size(); ++k) error.add(groups[k], float_from_half(scratch.padded_halves[k]));
    codec::strip_padding(shape_, stripe.first_group, stripe.groups, scratch.padded_halves.data(), scratch.halves.data());
    targets_[target].sinks.plain->write(tensor_.name, range.first * sizeof(uint16_t), bytes_of(scratch.halves, range.count));
  }

  template <typename Work>
  void timed(size_t target, Work&& work) {
    const auto start = Clock::now();
    work();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const std::lock_guard lock(mutex_);
    results_[target].thread_seconds += seconds;
  }

  const SourceTensor& tensor_;
  codec::MatrixShape shape_;
  codec::Stripes stripes_;
  std::span<const MatrixTarget> targets_;
  ThreadPool& pool_;
  Tally tally_;
  std::vector<Scratch> scratch_;
  std::vector<codec::MatrixQuantizer> quantizers_;
  std::vector<MatrixResult> results_;
  std::vector<std::vector<PlainError>> plain_errors_;  // [targets][stripes], so that the sum does not depend on the threads
  float largest_weight_ = codec::kLargestWeight;
  std::mutex mutex_;
};

constexpr uint64_t kKeptTask = uint64_t{1} << 18;  // elements of a kept tensor that are converted together

}  // namespace

std::vector<MatrixResult> quantize_matrix(const SourceTensor& tensor, std::span<const MatrixTarget> targets,
                                          const codec::GroupKernels& kernels, ThreadPool& pool, const OnWeights& on_weights) {
  return MatrixJob(tensor, targets, kernels, pool, on_weights).run();
}

ElementType kept_type(ElementType source, bool is_beyond_half) noexcept {
  if (!is_weight_type(source)) return source;
  if (!is_beyond_half || source == ElementType::kF16) return ElementType::kF16;
  return source == ElementType::kBF16 ? ElementType::kBF16 : ElementType::kF32;
}

bool is_beyond_half(const SourceTensor& tensor, ThreadPool& pool) {
  if (!is_weight_type(tensor.type) || tensor.type == ElementType::kF16) return false;
  const uint64_t elements = tensor.elements();
  std::atomic<bool> is_beyond{false};
  pool.parallel_for((elements + kKeptTask - 1) / kKeptTask, [&](size_t task, unsigned) {
    if (is_beyond) return;
    const uint64_t first = task * kKeptTask;
    std::vector<float> weights(std::min(kKeptTask, elements - first));
    read_float32(tensor, first, weights);
    const auto large = codec::find_unusable_weight(weights, kLargestHalf);
    if (large && std::isfinite(weights[*large])) is_beyond = true;
  });
  release_pages(tensor.bytes);
  return is_beyond;
}

std::optional<PlainError> copy_kept_tensor(const SourceTensor& tensor, ElementType type, std::span<const TensorSinks> sinks,
                                           ThreadPool& pool, const OnWeights& on_weights) {
  const auto write_all = [&](uint64_t offset, std::span<const std::byte> bytes) {
    for (const TensorSinks& sink : sinks) {
      if (sink.packed != nullptr) sink.packed->write(tensor.name, offset, bytes);
      if (sink.plain != nullptr) sink.plain->write(tensor.name, offset, bytes);
    }
  };
  const uint64_t elements = tensor.elements(), tasks = (elements + kKeptTask - 1) / kKeptTask;
  Tally tally(on_weights);
  const bool becomes_half = is_weight_type(tensor.type) && type == ElementType::kF16;
  std::vector<PlainError> errors(tasks);
  pool.parallel_for(tasks, [&](size_t task, unsigned worker) {
    const uint64_t first = task * kKeptTask, count = std::min(kKeptTask, elements - first);
    if (is_weight_type(tensor.type)) {
      std::vector<float> weights(count);
      read_float32(tensor, first, weights);
      check_weights(tensor, first, weights, becomes_half ? kLargestHalf : std::numeric_limits<float>::max());
      release_pages(stored_bytes(tensor, first, count));
      if (type == ElementType::kF32) {
        write_all(first * sizeof(float), bytes_of(weights, count));
      } else {
        // BF16 is stored so only where the source is BF16: nothing is rounded.
        std::vector<uint16_t> words(count);
        std::transform(weights.begin(), weights.end(), words.begin(), becomes_half ? half_from_float : bfloat16_from_float);
        write_all(first * sizeof(uint16_t), bytes_of(words, count));
        for (size_t i = 0; becomes_half && i < count; ++i) errors[task].add(weights[i], float_from_half(words[i]));
      }
    } else {
      const uint64_t size = layout_of(tensor.type).block_bytes;
      write_all(first * size, tensor.bytes.subspan(first * size, count * size));
    }
    tally.add(count, worker);
  });
  tally.flush();
  if (!becomes_half) return std::nullopt;
  PlainError sum;
  for (const PlainError& error : errors) sum.add(error);
  return sum;
}

uint64_t matrix_memory(const codec::MatrixShape& shape, size_t configs) noexcept {
  // The sample, its sums and the dynamic programme, of one codebook at a time.
  constexpr uint64_t kSampleBytes = uint64_t{8} << 20, kFixedBytes = uint64_t{1} << 16;
  return configs * (shape.groups() * sizeof(float) + shape.codebook_bytes() + kFixedBytes) +
         shape.groups_per_codebook() * sizeof(uint64_t) + kSampleBytes;
}

uint64_t thread_memory(const codec::MatrixShape& shape) noexcept {
  constexpr uint64_t kKeptBytes = kKeptTask * (sizeof(float) + sizeof(uint16_t)), kStripeBytesPerWeight = 24;
  return std::max(kKeptBytes, kStripeBytesPerWeight * codec::Stripes(shape).largest());
}

}  // namespace tritllm
