#include "api/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <string>

#include "backend/cpu/backend.h"
#include "codec/decoder.h"
#include "codec/grouping.h"
#include "codec/quantizer.h"
#include "core/error.h"
#include "core/thread_pool.h"
#include "io/parallel_loop.h"
#include "io/weight_source.h"
#include "kernels/kernel_table.h"

namespace tritllm::api {
namespace {

// The pool of this process, which one call at a time uses.
struct Threads {
  explicit Threads(unsigned count) : pool(count) {}
  ThreadPool pool;
  std::mutex mutex;
};

std::mutex settings_mutex;  // of what follows
unsigned wanted_threads = 0;
std::shared_ptr<Threads> current_threads;

std::shared_ptr<Threads> threads() {
  const std::lock_guard lock(settings_mutex);
  if (!current_threads) current_threads = std::make_shared<Threads>(wanted_threads);
  return current_threads;
}

Arithmetic arithmetic_named(std::string_view name) {
  if (name == "int8") return Arithmetic::kInteger;
  if (name == "f32") return Arithmetic::kFloat;
  throw Error(ErrorCode::kUsage, "arithmetic", fmt::format("expected int8 or f32, found '{}'", printable(name, 40)));
}

void require_size(const char* name, size_t found, uint64_t expected) {
  if (found != expected) throw Error(ErrorCode::kUsage, name, fmt::format("expected {} elements, found {}", expected, found));
}

void check_weights(std::span<const float> weights, const codec::MatrixShape& shape) {
  const auto bad = codec::find_unusable_weight(weights, codec::kLargestWeight);
  if (!bad) return;
  throw Error(ErrorCode::kBadInput, fmt::format("weights[{}, {}]", *bad / shape.columns, *bad % shape.columns),
              fmt::format("expected a finite number of magnitude up to {}, found {}", codec::kLargestWeight, weights[*bad]));
}

}  // namespace

PackedBytes quantize_matrix(std::span<const float> weights, const codec::MatrixShape& shape, codec::Config config) {
  require_size("weights", weights.size(), shape.weights());
  if (shape.weights() == 0) throw Error(ErrorCode::kUsage, "weights", "a matrix without elements has no codes");
  if (config.recipe == codec::Recipe::kExact)
    throw Error(ErrorCode::kUsage, "config", "recipe exact takes the depth from the whole matrix", "use pack() on a model");
  check_weights(weights, shape);
  const auto shared = threads();
  const std::lock_guard lock(shared->mutex);
  codec::MatrixQuantizer quantizer(config, shape, *kernels::active_table().groups);
  const codec::Stripes& stripes = quantizer.stripes();
  const auto padded = [&](const codec::Stripe& stripe) {
    std::vector<float> groups(stripe.padded_groups() * codec::kGroupSize);
    const codec::WeightRange range = codec::weights_in_groups(shape, stripe.first_group, stripe.groups);
    codec::pad_groups(shape, stripe.first_group, stripe.groups, weights.data() + range.first, groups.data());
    return groups;
  };
  ThreadPool& pool = shared->pool;
  pool.parallel_for(stripes.size(),
                    [&](size_t index, unsigned) { quantizer.collect_scales(index, padded(stripes[index]).data()); });
  const auto read_group = [&](uint64_t group, float* out) {
    const codec::WeightRange range = codec::weights_in_groups(shape, group, 1);
    std::fill_n(out, codec::kGroupSize, 0.0f);
    std::copy_n(weights.data() + range.first, range.count, out);
  };
  quantizer.choose_codebooks(read_group, loop_over(pool));
  const auto depth = static_cast<size_t>(config.depth);
  PackedBytes packed{config.depth, std::vector<uint8_t>(shape.trit_bytes(config.depth)), std::vector<uint8_t>(shape.scale_bytes()),
                     quantizer.codebooks()[0]};
  pool.parallel_for(stripes.size(), [&](size_t index, unsigned) {
    const codec::Stripe stripe = stripes[index];
    codec::EncodedStripe encoded;
    quantizer.encode(index, padded(stripe).data(), encoded);
    for (size_t plane = 0; plane < depth; ++plane) {
      const uint64_t at = (plane * shape.lines() + stripe.first_line()) * codec::kGroupSize;
      std::ranges::copy(encoded.planes[plane], packed.trits.begin() + static_cast<ptrdiff_t>(at));
    }
    std::ranges::copy(encoded.scales, packed.scales.begin() + static_cast<ptrdiff_t>(stripe.first_line() * codec::kScaleTrits));
  });
  return packed;
}

TernaryMatrix checked_matrix(const codec::MatrixShape& shape, int depth, std::span<const uint8_t> trits,
                             std::span<const uint8_t> scales, std::span<const float> codebooks) {
  if (depth < 1 || depth > codec::kMaxDepth)
    throw Error(ErrorCode::kUsage, "trits", fmt::format("expected 1 to 4 planes, found {}", depth));
  require_size("trits", trits.size(), shape.trit_bytes(depth));
  require_size("scales", scales.size(), shape.scale_bytes());
  if (codebooks.size() != codec::kCodebookSize)
    require_size("codebook", codebooks.size(), shape.codebooks() * codec::kCodebookSize);
  TernaryMatrix matrix{shape, depth, trits, scales, {}};
  // One codebook may serve a whole stack.
  for (uint64_t i = 0; i < shape.codebooks(); ++i) {
    codec::Codebook codebook;
    std::copy_n(
        codebooks.begin() + (codebooks.size() == codec::kCodebookSize ? 0 : static_cast<ptrdiff_t>(i * codec::kCodebookSize)),
        codec::kCodebookSize, codebook.begin());
    matrix.codebooks.push_back(codebook);
  }
  const auto shared = threads();
  const std::lock_guard lock(shared->mutex);
  validate_matrix(matrix, "matrix", loop_over(shared->pool));
  return matrix;
}

void decode_matrix(const TernaryMatrix& matrix, std::span<float> out) {
  const codec::MatrixShape& shape = matrix.shape;
  require_size("out", out.size(), shape.weights());
  std::vector<codec::FloatDecoder> decoders;
  for (const codec::Codebook& codebook : matrix.codebooks) decoders.emplace_back(codebook, matrix.depth);
  const uint64_t rows_of_codebook = shape.rows / shape.codebooks(), groups = shape.groups_per_row();
  const auto shared = threads();
  const std::lock_guard lock(shared->mutex);
  shared->pool.parallel_for(shape.rows, [&](size_t row, unsigned) {
    std::vector<int8_t> codes(groups * codec::kGroupSize);
    std::vector<uint8_t> scale_codes(groups);
    std::vector<float> weights(codes.size());
    decode_rows(matrix, row, 1, 0, groups, codes.data(), scale_codes.data());
    decoders[row / rows_of_codebook].decode(codes.data(), scale_codes.data(), groups, weights.data());
    std::copy_n(weights.begin(), shape.columns, out.begin() + static_cast<ptrdiff_t>(row * shape.columns));
  });
}

// A backend on the process's threads, and the rows of its products.
class ProductMatrix::Device {
 public:
  static std::shared_ptr<Device> get(Arithmetic arithmetic) {
    static std::mutex mutex;
    static std::map<Arithmetic, std::shared_ptr<Device>> devices;
    const auto shared = threads();
    const std::lock_guard lock(mutex);
    std::shared_ptr<Device>& device = devices[arithmetic];
    if (!device || device->threads_ != shared) device = std::make_shared<Device>(shared, arithmetic);
    return device;
  }

  Device(std::shared_ptr<Threads> threads, Arithmetic arithmetic)
      : threads_(std::move(threads)), backend_(make_cpu_backend(threads_->pool, kernels::active_table(), arithmetic)) {}

  std::unique_ptr<DeviceMatrix> upload(const TernaryMatrix& matrix) {
    const std::lock_guard lock(threads_->mutex);
    return backend_->upload_matrix(WeightSource(matrix, /*mapped=*/false));
  }

  void multiply(const DeviceMatrix& matrix, std::span<const float> x, size_t tokens, std::span<float> y) {
    const std::lock_guard lock(threads_->mutex);
    const Rows in{room(inputs_, matrix.columns(), tokens), 0, tokens}, out{room(outputs_, matrix.rows(), tokens), 0, tokens};
    backend_->write(x, in);
    const Projection projection{&matrix, nullptr, out};
    backend_->multiply(in, nullptr, {&projection, 1});
    backend_->read(out, y);
  }

 private:
  using Rooms = std::map<uint64_t, std::unique_ptr<RowBuffer>>;  // by width

  RowBuffer* room(Rooms& rooms, uint64_t width, size_t tokens) {
    std::unique_ptr<RowBuffer>& buffer = rooms[width];
    if (!buffer || buffer->capacity() < tokens) buffer = backend_->allocate_rows(tokens, width);
    return buffer.get();
  }

  const std::shared_ptr<Threads> threads_;
  const std::unique_ptr<Backend> backend_;
  Rooms inputs_, outputs_;
};

ProductMatrix::ProductMatrix(const TernaryMatrix& matrix, std::string_view arithmetic)
    : device_(Device::get(arithmetic_named(arithmetic))), matrix_(device_->upload(matrix)) {}

ProductMatrix::~ProductMatrix() = default;

void ProductMatrix::multiply(std::span<const float> x, size_t tokens, std::span<float> y) const {
  require_size("x", x.size(), tokens * columns());
  require_size("y", y.size(), tokens * rows());
  if (tokens > 0) device_->multiply(*matrix_, x, tokens, y);
}

void set_matrix_threads(unsigned threads) {
  const std::lock_guard lock(settings_mutex);
  wanted_threads = threads;
  current_threads.reset();
}

}  // namespace tritllm::api
