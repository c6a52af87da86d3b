#include "tasks/matrix_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
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
      if (target.exact != nullptr) quantizers_.emplace_back(*target.exact, shape_, kernels);
      else quantizers_.emplace_back(target.config, shape_, kernels);
    }
  }

  std::vector<MatrixResult> run() {
    if (std::ranges::any_of(quantizers_, &codec::MatrixQuantizer::collects_scales))
      pool_.parallel_for(stripes_.size(), [&](size_t stripe, unsigned worker) { collect_scales(stripe, worker); });
    for (size_t i = 0; i < targets_.size(); ++i) choose_codebooks(i);
    pool_.parallel_for(stripes_.size(), [&](size_t stripe, unsigned worker) { encode(stripe, worker); });
    tally_.flush();
    for (size_t i = 0; i < targets_.size(); ++i) results_[i].stats = quantizers_[i].stats();
    return std::move(results_);
  }

 private:
  void collect_scales(size_t index, unsigned worker) {
    const float* const groups = scratch_[worker].reader.read(tensor_, stripes_[index]);
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
    const float* const groups = scratch.reader.read(tensor_, stripe);
    for (size_t i = 0; i < targets_.size(); ++i) {
      timed(i, [&] { quantizers_[i].encode(index, groups, scratch.encoded); });
      if (targets_[i].sinks.packed != nullptr) write_packed(*targets_[i].sinks.packed, stripe, scratch.encoded);
      if (targets_[i].sinks.plain != nullptr) write_plain(i, stripe, scratch);
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

  void write_plain(size_t target, const codec::Stripe& stripe, Scratch& scratch) const {
    const codec::WeightRange range = codec::weights_in_groups(shape_, stripe.first_group, stripe.groups);
    scratch.padded_halves.resize(stripe.groups * codec::kGroupSize);
    scratch.halves.resize(range.count);
    codec::for_codebooks(shape_, stripe.first_group, stripe.groups, [&](size_t codebook, uint64_t first, size_t count) {
      const auto offset = static_cast<size_t>(first - stripe.first_group);
      codec::HalfDecoder(quantizers_[target].codebooks()[codebook], targets_[target].config.depth)
          .decode(scratch.encoded.codes.data() + offset * codec::kGroupSize, scratch.encoded.scale_codes.data() + offset, count,
                  scratch.padded_halves.data() + offset * codec::kGroupSize);
    });
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
  std::mutex mutex_;
};

constexpr uint64_t kKeptTask = uint64_t{1} << 18;  // elements of a kept tensor that are converted together

}  // namespace

std::vector<MatrixResult> quantize_matrix(const SourceTensor& tensor, std::span<const MatrixTarget> targets,
                                          const codec::GroupKernels& kernels, ThreadPool& pool, const OnWeights& on_weights) {
  return MatrixJob(tensor, targets, kernels, pool, on_weights).run();
}

ElementType kept_type(ElementType source) noexcept { return is_weight_type(source) ? ElementType::kF16 : source; }

void copy_kept_tensor(const SourceTensor& tensor, std::span<const TensorSinks> sinks, ThreadPool& pool,
                      const OnWeights& on_weights) {
  const auto write_all = [&](uint64_t offset, std::span<const std::byte> bytes) {
    for (const TensorSinks& sink : sinks) {
      if (sink.packed != nullptr) sink.packed->write(tensor.name, offset, bytes);
      if (sink.plain != nullptr) sink.plain->write(tensor.name, offset, bytes);
    }
  };
  const uint64_t elements = tensor.elements();
  Tally tally(on_weights);
  const bool converts = is_weight_type(tensor.type);
  pool.parallel_for((elements + kKeptTask - 1) / kKeptTask, [&](size_t task, unsigned worker) {
    const uint64_t first = task * kKeptTask, count = std::min(kKeptTask, elements - first);
    if (converts) {
      std::vector<float> weights(count);
      read_float32(tensor, first, weights);
      check_weights(tensor, first, weights);
      std::vector<uint16_t> halves(count);
      std::transform(weights.begin(), weights.end(), halves.begin(), half_from_float);
      write_all(first * sizeof(uint16_t), bytes_of(halves, count));
      release_pages(stored_bytes(tensor, first, count));
    } else {
      const uint64_t size = layout_of(tensor.type).block_bytes;
      write_all(first * size, tensor.bytes.subspan(first * size, count * size));
    }
    tally.add(count, worker);
  });
  tally.flush();
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
