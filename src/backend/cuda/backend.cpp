// Owns the Backend of a CUDA device: which launcher each operation is. Does not own a kernel (launch.h).
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

#include "backend/cuda/chooser.h"
#include "backend/cuda/context.h"
#include "backend/cuda/devices.h"
#include "backend/cuda/layout.h"
#include "backend/cuda/matrix.h"
#include "backend/cuda/objects.h"
#include "backend/cuda/recordings.h"
#include "core/error.h"

namespace tritllm {
namespace cuda {
namespace {

static_assert(static_cast<int>(GateKind::kReluSquared) == static_cast<int>(Activation::kReluSquared));
static_assert(kNoChoice == kNoToken);

class CudaBackend final : public Backend {
 public:
  CudaBackend(int index, ThreadPool& pool)
      : pool_(pool),
        index_(index),
        context_(index),
        name_(context_.name()),
        staging_(kStagingBytes),
        partial_sums_(context_, std::max(partial_sum_bytes(context_.traits()), attention_partial_bytes(context_.traits()))),
        counters_(context_, kCounters * sizeof(uint32_t)),
        operands_(context_),
        normed_(context_),
        recordings_(context_),
        chooser_(context_, pool) {
    context_.clear(counters_.as<void>(), counters_.bytes());
  }

  std::string description() const override { return fmt::format("cuda:{} ({})", index_, name_); }
  bool asynchronous() const noexcept override { return true; }

  std::unique_ptr<DeviceMatrix> upload_matrix(const WeightSource& source, const MatrixSlice& slice) override {
    context_.use();
    return std::make_unique<CudaMatrix>(context_, source, slice, pool_, staging_);
  }
  std::unique_ptr<DeviceVector> upload_vector(std::span<const float> values) override {
    return std::make_unique<CudaVector>(context_, values);
  }
  std::unique_ptr<RowBuffer> allocate_rows(size_t capacity, size_t width) override {
    return std::make_unique<CudaRows>(context_, capacity, width);
  }
  std::unique_ptr<RotaryTable> make_rotary_table(const RotaryFrequencies& frequencies, uint32_t positions) override {
    return std::make_unique<CudaRotaryTable>(context_, frequencies, positions);
  }

  // From here on products fill the card (docs/cuda.md).
  uint32_t usual_batch_tokens() const noexcept override { return 1024; }
  uint32_t page_positions() const noexcept override { return kPagePositions; }
  uint64_t cache_bytes(const CacheShape& shape) const override { return CudaCache::bytes_of(shape); }
  std::unique_ptr<KeyValueCache> make_cache(const CacheShape& shape) override {
    if (shape.head_width > kLargestHead) {
      throw Error(ErrorCode::kUnsupported, "head_dim",
                  fmt::format("heads of {} elements; CUDA devices take up to {}", shape.head_width, kLargestHead), "use cpu");
    }
    return std::make_unique<CudaCache>(context_, shape);
  }
  void copy_page(KeyValueCache& cache, PageId from, PageId to) override {
    const auto& pages = own<CudaCache>(cache);
    context_.use();
    check(cudaMemcpyAsync(pages.page(to), pages.page(from), pages.page_bytes(), cudaMemcpyDeviceToDevice, context_.stream()),
          "copy a page");
  }

  std::unique_ptr<Step> make_step(const StepLimits& limits) override {
    context_.use();
    return std::make_unique<CudaStep>(context_, limits);
  }
  void begin(Step& step, const StepInputs& inputs) override {
    context_.use();
    auto& own_step = own<CudaStep>(step);
    own_step.begin(inputs);
    const bool any_chosen = std::ranges::any_of(inputs.tokens, [](uint32_t token) { return (token & kChosenToken) != 0; });
    if (any_chosen) {
      const auto& chosen = own<const CudaChosenTokens>(*inputs.chosen);
      launch(
          resolve_tokens(traits(), own_step.tokens_on_device(), static_cast<int>(inputs.tokens.size()), chosen.data(), stream()));
    }
  }
  void run(const StepKey& key, const std::function<void()>& operations) override {
    context_.use();
    const auto& step = own<const CudaStep>(*key.step);
    recordings_.run({key, step.separate(), step.long_rows()}, operations);
  }

  void embed(const DeviceMatrix& table, const Step& step, float scale, Rows out) override {
    const auto& matrix = own<const CudaMatrix>(table);
    if (out.count > 0) launch(cuda::embed(traits(), matrix.view(), matrix.floats(), view_of(step), scale, view_of(out), stream()));
  }

  void multiply(Rows x, const Norm* norm, std::span<const Projection> projections) override {
    for (size_t first = 0; first < x.count; first += kTokensAtOnce) {
      const size_t count = std::min(kTokensAtOnce, x.count - first);
      const RowsView rows = view_of(x.slice(first, count));
      const bool rounds = projections.front().rounds_input;
      const Input input = rounds ? input_of(rounded(rows, norm), nullptr) : input_of(rows, norm);
      const Workspace workspace = workspace_for(std::min(x.count, kTokensAtOnce), rows.width);
      // Matrices of one depth that follow each other share a launch.
      for (size_t begin = 0; begin < projections.size();) {
        Product products[kMaxProducts];
        int taken = 0;
        bool in_place = false;
        const int depth = own<const CudaMatrix>(*projections[begin].weights).view().depth;
        for (; begin < projections.size() && taken < kMaxProducts; ++begin, ++taken) {
          const Projection& projection = projections[begin];
          products[taken] = product_of(projection, projection.out.slice(first, count));
          if (products[taken].weights.depth != depth) break;
          in_place |= products[taken].out == rows.data;
        }
        // Blocks of the kernel for one token read all of x, and some may have written their rows before others have.
        const ProductKernel kernel = in_place && count == 1 ? ProductKernel::kBatch : ProductKernel::kAutomatic;
        launch(cuda::multiply(traits(), input, products, taken, workspace, stream(), kernel));
      }
    }
  }

  void multiply_gated(Rows x, const Norm* norm, const Projection& gate, const Projection& up, Activation activation) override {
    const Input input = input_of(view_of(x), norm);
    const Product products[] = {product_of(gate, gate.out), product_of(up, up.out)};
    if (gate.rounds_input || x.count > kTokensAtOnce || !fits_gated(traits(), input, products[0], products[1])) {
      return Backend::multiply_gated(x, norm, gate, up, activation);
    }
    launch(cuda::multiply_gated(traits(), static_cast<GateKind>(activation), input, products[0], products[1],
                                workspace_for(x.count, static_cast<int64_t>(x.width())), stream()));
  }

  void store_heads(Rows queries, Rows keys, Rows values, const HeadRules& rules, const Step& step, uint32_t layer,
                   KeyValueCache& cache) override {
    if (queries.count == 0) return;
    launch(cuda::store_heads(traits(), head_task(queries, keys, values, rules), own<CudaCache>(cache).view(),
                             static_cast<int>(layer), view_of(step), stream()));
  }
  void attend(Rows queries, const KeyValueCache& cache, const AttentionSettings& settings, const Step& step, Rows out) override {
    if (queries.count == 0) return;
    launch(cuda::attend(traits(), attention_task(queries, settings, out), own<const CudaCache>(cache).view(), view_of(step),
                        stream()));
  }
  void store_and_attend(Rows queries, Rows keys, Rows values, const HeadRules& rules, const Step& step, KeyValueCache& cache,
                        const AttentionSettings& settings, Rows out) override {
    if (queries.count == 0 || !own<const CudaStep>(step).separate()) {
      return Backend::store_and_attend(queries, keys, values, rules, step, cache, settings, out);
    }
    launch(cuda::store_and_attend(traits(), head_task(queries, keys, values, rules), attention_task(queries, settings, out),
                                  own<CudaCache>(cache).view(), view_of(step), stream()));
  }

  void gate(Activation activation, Rows gate, Rows up, Rows out) override {
    if (out.count > 0)
      launch(cuda::gate(traits(), static_cast<GateKind>(activation), view_of(gate), view_of(up), view_of(out), stream()));
  }
  void add_normed(Rows x, const Norm& norm, Rows to) override {
    if (to.count > 0)
      launch(cuda::add_normed(traits(), view_of(x), own<const CudaVector>(*norm.gain).data(), norm.epsilon, view_of(to), stream()));
  }
  void gather(Rows x, const Step& step, size_t first, Rows out) override {
    if (out.count > 0) launch(cuda::gather(traits(), view_of(x), view_of(step), static_cast<int>(first), view_of(out), stream()));
  }
  void soft_cap(Rows x, float cap) override {
    if (x.count > 0) launch(cuda::soft_cap(traits(), view_of(x), cap, stream()));
  }

  std::unique_ptr<ChosenTokens> make_chosen_tokens(uint32_t capacity) override {
    return std::make_unique<CudaChosenTokens>(context_, capacity);
  }

  void choose(Rows logits, std::span<const DrawSettings> draws, ChosenTokens& chosen) override {
    context_.use();
    if (logits.count > 0) chooser_.choose(view_of(logits), draws, own<CudaChosenTokens>(chosen));
  }
  void tokens(const ChosenTokens& chosen, std::span<uint32_t> out) override {
    context_.use();
    own<const CudaChosenTokens>(chosen).receive(out);
  }

  std::unique_ptr<Moments> make_moments(size_t columns, MomentKind kind) override {
    return std::make_unique<CudaMoments>(context_, columns, kind);
  }
  void add_moments(Rows x, const Norm* norm, Moments& sums) override {
    context_.use();
    if (x.count == 0) return;
    auto& moments = own<CudaMoments>(sums);
    RowsView rows = view_of(x);
    if (norm != nullptr) {
      const RowsView normed = room_like(rows);
      context_.clear(normed.data, bytes_of(normed));
      launch(cuda::add_normed(traits(), rows, own<const CudaVector>(*norm->gain).data(), norm->epsilon, normed, stream()));
      rows = normed;
    }
    launch(moments.kind() == MomentKind::kSquares ? add_squares(traits(), rows, moments.data(), stream())
                                                  : add_outer_products(traits(), rows, moments.data(), stream()));
  }
  void read(const Moments& sums, std::span<double> out) override {
    context_.use();
    context_.download(own<const CudaMoments>(sums).data(), out.data(), out.size_bytes());
  }

  void read(Rows x, std::span<float> out) override {
    context_.use();
    const RowsView rows = view_of(x);
    if (rows.count == 0) return;
    const size_t width = x.width() * sizeof(float);
    check(cudaMemcpy2DAsync(out.data(), width, rows.data, static_cast<size_t>(rows.stride) * sizeof(float), width, x.count,
                            cudaMemcpyDeviceToHost, stream()),
          "copy rows from the device");
    context_.wait();
  }
  void write(std::span<const float> values, Rows out) override {
    context_.use();
    const RowsView rows = view_of(out);
    if (rows.count == 0) return;
    const size_t width = out.width() * sizeof(float);
    check(cudaMemcpy2DAsync(rows.data, static_cast<size_t>(rows.stride) * sizeof(float), values.data(), width, width, out.count,
                            cudaMemcpyHostToDevice, stream()),
          "copy rows to the device");
    context_.wait();
  }

 private:
  static constexpr size_t kStagingBytes = size_t{64} << 20;
  // Operands of more tokens than these are not held at once.
  static constexpr size_t kTokensAtOnce = 8192;

  const DeviceTraits& traits() const noexcept { return context_.traits(); }
  Stream stream() const noexcept { return context_.stream(); }
  static StepView view_of(const Step& step) noexcept { return own<const CudaStep>(step).view(); }
  static RowsView view_of(Rows rows) noexcept { return cuda::view_of(rows); }
  static void launch(Status status) { check(status, "start a kernel"); }

  // For products of so many tokens. Valid until the next call.
  Workspace workspace_for(size_t tokens, int64_t columns) {
    return {operands_.sized(operand_bytes(static_cast<int64_t>(tokens), columns)), partial_sums_.as<void>(),
            counters_.as<uint32_t>()};
  }

  static size_t bytes_of(const RowsView& rows) {
    return static_cast<size_t>(rows.count) * static_cast<size_t>(rows.stride) * sizeof(float);
  }
  // Rows like these, which hold until the next call.
  RowsView room_like(const RowsView& rows) {
    return {static_cast<float*>(normed_.sized(bytes_of(rows))), rows.stride, rows.count, rows.width};
  }
  // norm(x), or x, rounded as Projection::rounds_input says.
  RowsView rounded(const RowsView& x, const Norm* norm) {
    const RowsView out = room_like(x);
    launch(round_rows(traits(), x, gain_of(norm), epsilon_of(norm), out, stream()));
    return out;
  }

  static const float* gain_of(const Norm* norm) { return norm == nullptr ? nullptr : own<const CudaVector>(*norm->gain).data(); }
  static float epsilon_of(const Norm* norm) { return norm == nullptr ? 0.0f : norm->epsilon; }
  static Input input_of(const RowsView& rows, const Norm* norm) {
    return {rows.data, rows.stride, rows.count, gain_of(norm), epsilon_of(norm)};
  }
  static Product product_of(const Projection& projection, Rows out) {
    const RowsView rows = view_of(out);
    return {own<const CudaMatrix>(*projection.weights).view(),
            projection.bias == nullptr ? nullptr : own<const CudaVector>(*projection.bias).data(), rows.data, rows.stride,
            projection.adds};
  }
  static HeadTask head_task(Rows queries, Rows keys, Rows values, const HeadRules& rules) {
    const auto& angles = own<const CudaRotaryTable>(*rules.rotary);
    return {view_of(queries),
            view_of(keys),
            view_of(values),
            gain_of(rules.query_norm),
            gain_of(rules.key_norm),
            epsilon_of(rules.query_norm),
            epsilon_of(rules.key_norm),
            angles.cosines(),
            angles.sines(),
            angles.pairs()};
  }
  AttentionTask attention_task(Rows queries, const AttentionSettings& settings, Rows out) const {
    return {view_of(queries),
            view_of(out),
            static_cast<int32_t>(settings.layer),
            static_cast<int32_t>(settings.heads),
            settings.window,
            settings.scale,
            settings.softcap,
            partial_sums_.as<float>(),
            counters_.as<uint32_t>()};
  }

  ThreadPool& pool_;
  int index_;
  Context context_;
  std::string name_;
  PinnedMemory staging_;
  DeviceMemory partial_sums_, counters_;
  GrowingMemory operands_, normed_;
  Recordings recordings_;
  Chooser chooser_;
};

}  // namespace
}  // namespace cuda

CudaDevices find_cuda_devices() {
  CudaDevices found;
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess) {
    cudaGetLastError();
    found.problem = status == cudaErrorInsufficientDriver ? "no NVIDIA driver, or one that is too old for this program"
                                                          : cudaGetErrorString(status);
    return found;
  }
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    CudaDevice device{index, {}, 0, 0, 0};
    size_t free = 0, all = 0;
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess || cudaSetDevice(index) != cudaSuccess ||
        cudaMemGetInfo(&free, &all) != cudaSuccess) {
      continue;
    }
    device.name = properties.name;
    device.compute_capability = 10 * properties.major + properties.minor;
    device.memory = all;
    device.free_memory = free;
    // The kernels use what Ampere brought: asynchronous copies and 16-row products of halves.
    if (device.compute_capability >= 80) found.devices.push_back(std::move(device));
  }
  if (found.devices.empty()) found.problem = "no CUDA device of compute capability 8.0 or later";
  return found;
}

void require_cuda_device(int index) {
  const CudaDevices found = find_cuda_devices();
  if (std::ranges::none_of(found.devices, [&](const CudaDevice& device) { return device.index == index; })) {
    throw Error(ErrorCode::kUnsupported, "options.device",
                fmt::format("there is no CUDA device {}{}{}", index, found.problem.empty() ? "" : ": ", found.problem), "use cpu");
  }
}

std::unique_ptr<Backend> make_cuda_backend(int index, ThreadPool& pool) {
  require_cuda_device(index);
  return std::make_unique<cuda::CudaBackend>(index, pool);
}

}  // namespace tritllm
