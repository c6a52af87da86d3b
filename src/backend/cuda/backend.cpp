// Owns the Backend of a CUDA device: memory behind the interface's handles, the recording of steps as graphs, and which launcher
// each operation is. Does not own a kernel (launch.h).
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backend/cuda/context.h"
#include "backend/cuda/devices.h"
#include "backend/cuda/layout.h"
#include "backend/cuda/matrix.h"
#include "core/error.h"

namespace tritllm {
namespace cuda {
namespace {

static_assert(static_cast<int>(GateKind::kGeluErf) == static_cast<int>(Activation::kGeluErf));
static_assert(kNoChoice == kNoToken);

template <typename Own, typename Interface>
Own& own(Interface& object) noexcept {
  assert(dynamic_cast<Own*>(&object) != nullptr);
  return static_cast<Own&>(object);
}

class CudaRows final : public RowBuffer {
 public:
  CudaRows(Context& context, size_t capacity, size_t width)
      : RowBuffer(capacity, width), stride_((width + 3) / 4 * 4), memory_(context, capacity * stride_ * sizeof(float)) {
    context.clear(memory_.as<void>(), memory_.bytes());
  }
  RowsView view(size_t first, size_t count) const noexcept {
    return {memory_.as<float>() + first * stride_, static_cast<int64_t>(stride_), static_cast<int32_t>(count),
            static_cast<int32_t>(width())};
  }

 private:
  size_t stride_;  // a multiple of four: rows are 16-byte aligned
  DeviceMemory memory_;
};

RowsView view_of(Rows rows) noexcept { return own<CudaRows>(*rows.buffer).view(rows.first, rows.count); }

class CudaVector final : public DeviceVector {
 public:
  CudaVector(Context& context, std::span<const float> values) : width_(values.size()), memory_(context, values.size_bytes()) {
    context.upload(values.data(), memory_.as<void>(), values.size_bytes());
    context.wait();
  }
  size_t width() const noexcept override { return width_; }
  const float* data() const noexcept { return memory_.as<float>(); }

 private:
  size_t width_;
  DeviceMemory memory_;
};

class CudaRotaryTable final : public RotaryTable {
 public:
  CudaRotaryTable(Context& context, const RotaryFrequencies& frequencies, uint32_t positions)
      : pairs_(frequencies.inverse_wavelengths.size()),
        memory_(context, 2 * positions * pairs_ * sizeof(float)),
        sines_(positions * pairs_) {
    std::vector<float> values(2 * sines_);
    for (size_t position = 0; position < positions; ++position) {
      for (size_t pair = 0; pair < pairs_; ++pair) {
        // As transformers computes them: angle, cosine and sine in float32.
        const float angle = static_cast<float>(position) * frequencies.inverse_wavelengths[pair];
        values[position * pairs_ + pair] = std::cos(angle) * frequencies.amplitude;
        values[sines_ + position * pairs_ + pair] = std::sin(angle) * frequencies.amplitude;
      }
    }
    context.upload(values.data(), memory_.as<void>(), values.size() * sizeof(float));
    context.wait();
  }
  int32_t pairs() const noexcept { return static_cast<int32_t>(pairs_); }
  const float* cosines() const noexcept { return memory_.as<float>(); }
  const float* sines() const noexcept { return memory_.as<float>() + sines_; }

 private:
  size_t pairs_;
  DeviceMemory memory_;
  size_t sines_;  // where they begin
};

class CudaCache final : public KeyValueCache {
 public:
  CudaCache(Context& context, const CacheShape& shape)
      : shape_(shape),
        head_stride_(cache_head_stride(static_cast<int>(shape.head_width))),
        page_bytes_(size_t{shape.layers} * shape.key_value_heads * 2 * kPagePositions * static_cast<size_t>(head_stride_) *
                    (shape.type == CacheType::kFloat16 ? 2 : 4)),
        memory_(context, page_bytes_ * shape.pages) {
    context.clear(memory_.as<void>(), memory_.bytes());
  }
  uint64_t bytes() const noexcept override { return memory_.bytes(); }
  size_t page_bytes() const noexcept { return page_bytes_; }
  std::byte* page(PageId page) const noexcept { return memory_.as<std::byte>() + page * page_bytes_; }
  CacheView view() const noexcept {
    return {memory_.as<void>(),
            shape_.type == CacheType::kFloat16,
            static_cast<int32_t>(shape_.layers),
            static_cast<int32_t>(shape_.key_value_heads),
            static_cast<int32_t>(shape_.head_width),
            head_stride_};
  }

 private:
  CacheShape shape_;
  int32_t head_stride_;
  size_t page_bytes_;
  DeviceMemory memory_;
};

// Inputs are laid out in memory of the host as they will be on the device, and copied from there, so that begin() does not wait for
// the device unless it is two steps behind.
class CudaStep final : public Step {
 public:
  CudaStep(Context& context, const StepLimits& limits)
      : context_(context),
        limits_(limits),
        memory_(context, words() * sizeof(uint32_t)),
        staging_{Staging(words()), Staging(words())} {}

  uint32_t tokens() const noexcept override { return tokens_; }
  uint32_t scored() const noexcept override { return scored_; }
  // Whether each token is of a sequence of its own.
  bool separate() const noexcept { return separate_; }

  StepView view() const noexcept {
    uint32_t* const data = memory_.as<uint32_t>();
    return {data, data + places_at(), data + pages_at(), data + scored_at(), static_cast<int32_t>(limits_.pages_per_sequence)};
  }
  uint32_t* tokens_on_device() const noexcept { return memory_.as<uint32_t>(); }

  void begin(const StepInputs& inputs) {
    const size_t sequences = inputs.pages_per_sequence == 0 ? 0 : inputs.pages.size() / inputs.pages_per_sequence;
    if (inputs.tokens.size() > limits_.tokens || inputs.scored.size() > limits_.tokens || sequences > limits_.sequences ||
        inputs.pages_per_sequence > limits_.pages_per_sequence) {
      throw Error(ErrorCode::kUsage, "step",
                  fmt::format("{} tokens and {} sequences of {} pages; it was made for {}, {} and {}", inputs.tokens.size(),
                              sequences, inputs.pages_per_sequence, limits_.tokens, limits_.sequences, limits_.pages_per_sequence),
                  "make a larger step");
    }
    sequences_seen_.assign(limits_.sequences, false);
    separate_ = std::ranges::all_of(inputs.places, [&](TokenPlace place) {
      if (place.sequence >= sequences_seen_.size() || sequences_seen_[place.sequence]) return false;
      sequences_seen_[place.sequence] = true;
      return true;
    });
    tokens_ = static_cast<uint32_t>(inputs.tokens.size());
    scored_ = static_cast<uint32_t>(inputs.scored.size());
    Staging& staging = staging_[turn_++ % 2];
    check(cudaEventSynchronize(staging.copied), "wait for a copy");
    uint32_t* const host = staging.memory.as<uint32_t>();
    std::ranges::copy(inputs.tokens, host);
    std::ranges::copy(inputs.scored, host + scored_at());
    static_assert(sizeof(TokenPlace) == 2 * sizeof(uint32_t));
    std::memcpy(host + places_at(), inputs.places.data(), inputs.places.size_bytes());
    for (size_t sequence = 0; sequence < sequences; ++sequence) {
      std::ranges::copy(inputs.pages.subspan(sequence * inputs.pages_per_sequence, inputs.pages_per_sequence),
                        host + pages_at() + sequence * limits_.pages_per_sequence);
    }
    // A copy costs more than the few thousand words between the parts.
    if (const size_t used = pages_at() + sequences * limits_.pages_per_sequence; used <= kWordsInOneCopy) {
      copy(host, 0, used);
    } else {
      copy(host, 0, inputs.tokens.size());
      copy(host, scored_at(), inputs.scored.size());
      copy(host, places_at(), 2 * inputs.places.size());
      copy(host, pages_at(), sequences * limits_.pages_per_sequence);
    }
    check(cudaEventRecord(staging.copied, context_.stream()), "record a copy");
  }

 private:
  struct Staging {
    explicit Staging(size_t words) : memory(words * sizeof(uint32_t)) {
      check(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming), "make an event");
    }
    ~Staging() { cudaEventDestroy(copied); }
    PinnedMemory memory;
    cudaEvent_t copied = nullptr;
  };

  static constexpr size_t kWordsInOneCopy = 16384;

  // In words: tokens, scored rows, places, pages.
  size_t scored_at() const noexcept { return limits_.tokens; }
  size_t places_at() const noexcept { return scored_at() + limits_.tokens; }
  size_t pages_at() const noexcept { return places_at() + size_t{2} * limits_.tokens; }
  size_t words() const noexcept { return pages_at() + size_t{limits_.sequences} * limits_.pages_per_sequence; }
  void copy(const uint32_t* host, size_t first, size_t count) const {
    if (count > 0) context_.upload(host + first, memory_.as<uint32_t>() + first, count * sizeof(uint32_t));
  }

  Context& context_;
  StepLimits limits_;
  DeviceMemory memory_;
  Staging staging_[2];
  size_t turn_ = 0;
  uint32_t tokens_ = 0, scored_ = 0;
  bool separate_ = false;
  std::vector<bool> sequences_seen_;
};

class CudaChosenTokens final : public ChosenTokens {
 public:
  CudaChosenTokens(Context& context, uint32_t capacity)
      : context_(context), memory_(context, capacity * sizeof(uint32_t)), host_(capacity * sizeof(uint32_t)) {
    check(cudaEventCreateWithFlags(&copied_, cudaEventDisableTiming), "make an event");
  }
  ~CudaChosenTokens() override { cudaEventDestroy(copied_); }
  uint32_t* data() const noexcept { return memory_.as<uint32_t>(); }

  // To be called when `count` tokens have been chosen: the host gets them although later work is already on the stream.
  void send(size_t count) const {
    check(
        cudaMemcpyAsync(host_.as<void>(), memory_.as<void>(), count * sizeof(uint32_t), cudaMemcpyDeviceToHost, context_.stream()),
        "copy tokens");
    check(cudaEventRecord(copied_, context_.stream()), "record a copy");
  }
  void receive(std::span<uint32_t> out) const {
    check(cudaEventSynchronize(copied_), "wait for tokens");
    std::copy_n(host_.as<uint32_t>(), out.size(), out.data());
  }

 private:
  Context& context_;
  DeviceMemory memory_;
  PinnedMemory host_;
  cudaEvent_t copied_ = nullptr;
};

class CudaMoments final : public Moments {
 public:
  CudaMoments(Context& context, size_t columns, MomentKind kind)
      : columns_(columns),
        kind_(kind),
        memory_(context, (kind == MomentKind::kSquares ? columns : columns * columns) * sizeof(double)) {
    context.clear(memory_.as<void>(), memory_.bytes());
  }
  MomentKind kind() const noexcept override { return kind_; }
  size_t columns() const noexcept override { return columns_; }
  double* data() const noexcept { return memory_.as<double>(); }

 private:
  size_t columns_;
  MomentKind kind_;
  DeviceMemory memory_;
};

// Memory that grows to the largest use and stays.
class GrowingMemory {
 public:
  explicit GrowingMemory(Context& context) : context_(context) {}
  void* sized(size_t bytes) {
    if (!memory_ || memory_->bytes() < bytes) {
      memory_.reset();
      memory_.emplace(context_, bytes);
    }
    return memory_->as<void>();
  }

 private:
  Context& context_;
  std::optional<DeviceMemory> memory_;
};

struct RecordingKey {
  StepKey step;
  bool separate;  // CudaStep::separate(): other kernels
  bool operator==(const RecordingKey&) const = default;
};

struct KeyHash {
  size_t operator()(const RecordingKey& recording) const noexcept {
    const StepKey& key = recording.step;
    size_t hash = 0;
    for (const uint64_t part :
         {reinterpret_cast<uint64_t>(key.owner), reinterpret_cast<uint64_t>(key.step), reinterpret_cast<uint64_t>(key.cache),
          uint64_t{key.tokens} << 32 | key.first, uint64_t{key.scored} << 1 | uint64_t{recording.separate}}) {
      hash = (hash ^ part) * 0x9e3779b97f4a7c15u;
    }
    return hash;
  }
};

// Operations that were recorded, by key. All are dropped when memory is given back, since they hold addresses.
class Recordings {
 public:
  explicit Recordings(Context& context) : context_(context) {}
  ~Recordings() { clear(); }

  void run(const RecordingKey& key, const std::function<void()>& operations) {
    // The launches of long prompts hide behind their work, and their lengths hardly ever repeat.
    constexpr uint32_t kLongestRecorded = 64;
    constexpr size_t kMostRecordings = 256;
    if (key.step.tokens > kLongestRecorded) return operations();
    if (generation_ != context_.generation() || graphs_.size() > kMostRecordings) {
      clear();
      generation_ = context_.generation();
    }
    const auto found = graphs_.find(key);
    if (found == graphs_.end()) {
      // The first time shows how much room the operations need: nothing can be allocated while they are recorded.
      operations();
      if (generation_ == context_.generation()) graphs_.emplace(key, nullptr);
      return;
    }
    if (found->second == nullptr) found->second = record(operations);
    check(cudaGraphLaunch(found->second, context_.stream()), "replay a step");
  }

 private:
  cudaGraphExec_t record(const std::function<void()>& operations) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    check(cudaStreamBeginCapture(context_.stream(), cudaStreamCaptureModeThreadLocal), "record a step");
    try {
      operations();
    } catch (...) {
      cudaStreamEndCapture(context_.stream(), &graph);
      cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(context_.stream(), &graph), "record a step");
    const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "record a step");
    return executable;
  }
  void clear() noexcept {
    for (const auto& [key, executable] : graphs_) {
      if (executable != nullptr) cudaGraphExecDestroy(executable);
    }
    graphs_.clear();
  }

  Context& context_;
  std::unordered_map<RecordingKey, cudaGraphExec_t, KeyHash> graphs_;
  uint64_t generation_ = 0;
};

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
        draws_(pool.threads()) {
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

  uint32_t page_positions() const noexcept override { return kPagePositions; }
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
    recordings_.run({key, own<const CudaStep>(*key.step).separate()}, operations);
  }

  void embed(const DeviceMatrix& table, const Step& step, float scale, Rows out) override {
    const auto& matrix = own<const CudaMatrix>(table);
    if (out.count > 0) launch(cuda::embed(traits(), matrix.view(), matrix.floats(), view_of(step), scale, view_of(out), stream()));
  }

  void multiply(Rows x, const Norm* norm, std::span<const Projection> projections) override {
    for (size_t first = 0; first < x.count; first += kTokensAtOnce) {
      const size_t count = std::min(kTokensAtOnce, x.count - first);
      const RowsView rows = view_of(x.slice(first, count));
      const Input input = input_of(rows, norm);
      const Workspace workspace{operands_.sized(operand_bytes(static_cast<int64_t>(std::min(x.count, kTokensAtOnce)), rows.width)),
                                partial_sums_.as<void>(), counters_.as<uint32_t>()};
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
    if (!fits_gated(traits(), input, products[0], products[1])) return Backend::multiply_gated(x, norm, gate, up, activation);
    launch(cuda::multiply_gated(traits(), static_cast<GateKind>(activation), input, products[0], products[1], stream()));
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
    uint32_t* const out = own<CudaChosenTokens>(chosen).data();
    if (logits.count == 0) return;
    launch(choose_greedily(traits(), view_of(logits), out, stream()));
    // Rows that draw are read, and drawn from by the specification itself.
    std::vector<size_t> drawn;
    for (size_t row = 0; row < logits.count; ++row) {
      if (draws[row].temperature != 0) drawn.push_back(row);
    }
    if (drawn.empty()) return own<CudaChosenTokens>(chosen).send(logits.count);
    const size_t width = logits.width();
    std::vector<float> values(drawn.size() * width);
    for (size_t i = 0; i < drawn.size(); ++i) {
      const RowsView row = view_of(logits.slice(drawn[i], 1));
      check(cudaMemcpyAsync(values.data() + i * width, row.data, width * sizeof(float), cudaMemcpyDeviceToHost, stream()),
            "copy logits");
    }
    context_.wait();
    std::vector<uint32_t> tokens(drawn.size());
    pool_.parallel_for(drawn.size(), [&](size_t i, unsigned worker) {
      try {
        tokens[i] = draws_[worker].draw(std::span(values).subspan(i * width, width), draws[drawn[i]]);
      } catch (const Error&) {
        tokens[i] = kNoToken;
      }
    });
    for (size_t i = 0; i < drawn.size(); ++i) context_.upload(&tokens[i], out + drawn[i], sizeof(uint32_t));
    context_.wait();
    own<CudaChosenTokens>(chosen).send(logits.count);
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
      const size_t bytes = static_cast<size_t>(rows.count) * static_cast<size_t>(rows.stride) * sizeof(float);
      const RowsView normed{static_cast<float*>(normed_.sized(bytes)), rows.stride, rows.count, rows.width};
      context_.clear(normed.data, bytes);
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
  std::vector<TokenDraw> draws_;
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

std::unique_ptr<Backend> make_cuda_backend(int index, ThreadPool& pool) {
  const CudaDevices found = find_cuda_devices();
  if (std::ranges::none_of(found.devices, [&](const CudaDevice& device) { return device.index == index; })) {
    throw Error(ErrorCode::kUnsupported, "options.device",
                fmt::format("there is no CUDA device {}{}{}", index, found.problem.empty() ? "" : ": ", found.problem), "use cpu");
  }
  return std::make_unique<cuda::CudaBackend>(index, pool);
}

}  // namespace tritllm
