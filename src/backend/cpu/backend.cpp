#include "backend/cpu/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "backend/cpu/attention.h"
#include "backend/cpu/cache.h"
#include "backend/cpu/matrix.h"
#include "backend/cpu/quantized_rows.h"
#include "backend/cpu/rows.h"
#include "core/error.h"
#include "core/memory.h"

namespace tritllm {

namespace {

using kernels::TileFormat;
using kernels::WeightRows;

// Floats of a panel of expanded weights: half of a usual second-level cache.
constexpr size_t kPanelFloats = 128 * 1024;
constexpr size_t kLargestPanelRows = 64, kSmallestPanelRows = 8;
// Of fewer tokens at once the weights would be read too often.
constexpr size_t kFewestTokensAtOnce = 16;
// Pieces of a product that a thread takes at once, at most.
constexpr size_t kLongestRun = 8;
// An operation on fewer elements ends before another thread would have woken.
constexpr size_t kWorthSharing = 16 * 1024;

// The kernels' tables are indexed by their own enumerations, which have the same order.
static_assert(static_cast<int>(kernels::Activation::kReluSquared) == static_cast<int>(Activation::kReluSquared));
static_assert(static_cast<int>(kernels::CacheType::kInt8) == static_cast<int>(CacheType::kInt8));

class CpuRotaryTable final : public RotaryTable {
 public:
  // As transformers computes them: angle, cosine and sine in float32.
  CpuRotaryTable(const RotaryFrequencies& frequencies, uint32_t positions)
      : pairs_(frequencies.inverse_wavelengths.size()), cosines_(positions * pairs_), sines_(positions * pairs_) {
    for (size_t position = 0; position < positions; ++position) {
      for (size_t pair = 0; pair < pairs_; ++pair) {
        const float angle = static_cast<float>(position) * frequencies.inverse_wavelengths[pair];
        cosines_[position * pairs_ + pair] = std::cos(angle) * frequencies.amplitude;
        sines_[position * pairs_ + pair] = std::sin(angle) * frequencies.amplitude;
      }
    }
  }

  size_t pairs() const noexcept { return pairs_; }
  const float* cosines(size_t position) const noexcept { return cosines_.data() + position * pairs_; }
  const float* sines(size_t position) const noexcept { return sines_.data() + position * pairs_; }

 private:
  size_t pairs_;
  std::vector<float> cosines_, sines_;  // [positions][pairs]
};

struct CpuChosenTokens final : ChosenTokens {
  std::vector<uint32_t> tokens;
};

class CpuMoments final : public Moments {
 public:
  CpuMoments(size_t columns, MomentKind kind)
      : sums(kind == MomentKind::kSquares ? columns : columns * columns), columns_(columns), kind_(kind) {}
  MomentKind kind() const noexcept override { return kind_; }
  size_t columns() const noexcept override { return columns_; }

  std::vector<double> sums;

 private:
  size_t columns_;
  MomentKind kind_;
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(ThreadPool& pool, const kernels::KernelTable& kernels, Arithmetic arithmetic)
      : pool_(pool),
        kernels_(*kernels.tensors),
        ternary_(*kernels.ternary),
        arithmetic_(arithmetic),
        scratch_(pool.threads()),
        attention_(pool, kernels_) {}

  std::string description() const override { return fmt::format("cpu ({}, {} threads)", ternary_.name, pool_.threads()); }

  std::unique_ptr<DeviceMatrix> upload_matrix(const WeightSource& source, const MatrixSlice& slice) override {
    return std::make_unique<CpuMatrix>(source, slice, arithmetic_, ternary_, arena_, pool_);
  }
  std::unique_ptr<DeviceVector> upload_vector(std::span<const float> values) override {
    return std::make_unique<CpuVector>(values);
  }
  std::unique_ptr<RowBuffer> allocate_rows(size_t capacity, size_t width) override {
    return std::make_unique<CpuRowBuffer>(capacity, width);
  }
  std::unique_ptr<RotaryTable> make_rotary_table(const RotaryFrequencies& frequencies, uint32_t positions) override {
    return std::make_unique<CpuRotaryTable>(frequencies, positions);
  }

  // More make the rows outgrow the caches.
  uint32_t usual_batch_tokens() const noexcept override { return 512; }
  uint32_t page_positions() const noexcept override { return kCpuPagePositions; }
  std::unique_ptr<KeyValueCache> make_cache(const CacheShape& shape) override { return std::make_unique<CpuCache>(shape); }
  uint64_t cache_bytes(const CacheShape& shape) const override { return CpuCache::bytes_of(shape).value_or(UINT64_MAX); }
  uint64_t free_memory() const override { return available_memory(); }
  void copy_page(KeyValueCache& cache, PageId from, PageId to) override { own<CpuCache>(cache).copy_page(from, to); }

  std::unique_ptr<Step> make_step(const StepLimits&) override { return std::make_unique<CpuStep>(); }

  void begin(Step& step, const StepInputs& inputs) override {
    step_tokens_.assign(inputs.tokens.begin(), inputs.tokens.end());
    for (uint32_t& token : step_tokens_) {
      if ((token & kChosenToken) != 0) token = own<const CpuChosenTokens>(*inputs.chosen).tokens[token & ~kChosenToken];
    }
    own<CpuStep>(step).assign(inputs, step_tokens_);
  }

  void embed(const DeviceMatrix& table, const Step& step, float scale, Rows out) override {
    const auto& matrix = own<const CpuMatrix>(table);
    const auto& inputs = own<const CpuStep>(step);
    const FloatRows to = floats_of(out);
    for_rows(to, [&](size_t row, unsigned) {
      matrix.expand_row(kernels_, inputs.token(row), to.row(row));
      if (scale == 1.0f) return;
      std::transform(to.row(row), to.row(row) + to.width, to.row(row), [&](float value) { return value * scale; });
    });
  }

  void multiply(Rows x, const Norm* norm, std::span<const Projection> projections) override {
    products_.clear();
    for (const Projection& projection : projections) products_.push_back(product_of(projection));
    const bool rounds = !projections.empty() && projections.front().rounds_input;
    const FloatRows rows = rounds ? rounded(floats_of(x), norm) : floats_of(x);
    if (rounds) norm = nullptr;
    const size_t most = tokens_at_once(rows), parts = (rows.count + most - 1) / most;
    if (parts <= 1) return multiply_at_once(rows, norm);
    const std::vector<Product> whole = products_;
    for (size_t part = 0; part < parts; ++part) {
      const size_t first = rows.count * part / parts, count = rows.count * (part + 1) / parts - first;
      for (size_t i = 0; i < whole.size(); ++i) products_[i].out = whole[i].out.slice(first, count);
      multiply_at_once(rows.slice(first, count), norm);
    }
  }

  void store_heads(Rows queries, Rows keys, Rows values, const HeadRules& rules, const Step& step, uint32_t layer,
                   KeyValueCache& cache) override {
    const FloatRows q = floats_of(queries), k = floats_of(keys), v = floats_of(values);
    auto& pages = own<CpuCache>(cache);
    const auto& inputs = own<const CpuStep>(step);
    const auto& angles = own<const CpuRotaryTable>(*rules.rotary);
    const size_t width = pages.shape().head_width;
    const auto store_row = [&](size_t row) {
      const TokenPlace place = inputs.places()[row];
      prepare_heads(q.row(row), q.width, width, rules.query_norm, angles, place.position);
      prepare_heads(k.row(row), k.width, width, rules.key_norm, angles, place.position);
      const PageId page = inputs.page(place.sequence, place.position / kCpuPagePositions);
      pages.store_keys(layer, page, place.position % kCpuPagePositions, k.row(row));
      pages.store_values(layer, page, place.position % kCpuPagePositions, v.row(row));
    };
    if (q.count * (q.width + k.width) < kWorthSharing) {
      for (size_t row = 0; row < q.count; ++row) store_row(row);
      return;
    }
    // Neighbouring positions share cache lines: a thread takes as many as a tile has.
    pool_.parallel_for((q.count + kernels::kCacheTile - 1) / kernels::kCacheTile, [&](size_t tile, unsigned) {
      const size_t first = tile * kernels::kCacheTile, end = std::min(first + kernels::kCacheTile, q.count);
      for (size_t row = first; row < end; ++row) store_row(row);
    });
  }

  void attend(Rows queries, const KeyValueCache& cache, const AttentionSettings& settings, const Step& step, Rows out) override {
    attention_.attend(floats_of(queries), own<const CpuCache>(cache), settings, own<const CpuStep>(step), floats_of(out));
  }

  void gate(Activation activation, Rows gate, Rows up, Rows out) override {
    const auto kernel = kernels_.gate[static_cast<size_t>(activation)];
    const FloatRows a = floats_of(gate), b = floats_of(up), to = floats_of(out);
    for_rows(to, [&](size_t row, unsigned) { kernel(a.row(row), b.row(row), to.width, to.row(row)); });
  }

  void add_normed(Rows x, const Norm& norm, Rows to) override {
    const FloatRows from = floats_of(x), sums = floats_of(to);
    for_rows(sums, [&](size_t row, unsigned worker) {
      const float* const normed = norm_row(from.row(row), from, norm, scratch_[worker]);
      float* const sum = sums.row(row);
      for (size_t i = 0; i < sums.width; ++i) sum[i] += normed[i];
    });
  }

  void gather(Rows x, const Step& step, size_t first, Rows out) override {
    const auto& inputs = own<const CpuStep>(step);
    const FloatRows from = floats_of(x), to = floats_of(out);
    for (size_t i = 0; i < to.count; ++i) std::copy_n(from.row(inputs.scored_row(first + i)), from.width, to.row(i));
  }

  void soft_cap(Rows x, float cap) override {
    const FloatRows rows = floats_of(x);
    for_rows(rows, [&](size_t row, unsigned) {
      float* const values = rows.row(row);
      for (size_t i = 0; i < rows.width; ++i) values[i] = cap * std::tanh(values[i] / cap);
    });
  }

  std::unique_ptr<ChosenTokens> make_chosen_tokens(uint32_t) override { return std::make_unique<CpuChosenTokens>(); }

  void choose(Rows logits, std::span<const DrawSettings> draws, ChosenTokens& chosen) override {
    const FloatRows rows = floats_of(logits);
    std::vector<uint32_t>& out = own<CpuChosenTokens>(chosen).tokens;
    out.resize(rows.count);
    for_rows(rows, [&](size_t row, unsigned worker) {
      try {
        out[row] = scratch_[worker].draw.draw({rows.row(row), rows.width}, draws[row]);
      } catch (const Error&) {
        out[row] = kNoToken;
      }
    });
  }

  void tokens(const ChosenTokens& chosen, std::span<uint32_t> out) override {
    std::copy_n(own<const CpuChosenTokens>(chosen).tokens.begin(), out.size(), out.begin());
  }

  std::unique_ptr<Moments> make_moments(size_t columns, MomentKind kind) override {
    return std::make_unique<CpuMoments>(columns, kind);
  }

  void add_moments(Rows x, const Norm* norm, Moments& sums) override {
    auto& moments = own<CpuMoments>(sums);
    const FloatRows rows = norm == nullptr ? floats_of(x) : normed(floats_of(x), *norm);
    const size_t columns = moments.columns();
    if (moments.kind() == MomentKind::kSquares) {
      for (size_t row = 0; row < rows.count; ++row) {
        for (size_t i = 0; i < columns; ++i) moments.sums[i] += double{rows.row(row)[i]} * double{rows.row(row)[i]};
      }
      return;
    }
    pool_.parallel_for(columns, [&](size_t i, unsigned) {
      double* const out = moments.sums.data() + i * columns;
      for (size_t row = 0; row < rows.count; ++row) {
        const double factor = double{rows.row(row)[i]};
        for (size_t j = 0; j < columns; ++j) out[j] += factor * double{rows.row(row)[j]};
      }
    });
  }

  void read(const Moments& sums, std::span<double> out) override {
    std::copy_n(own<const CpuMoments>(sums).sums.begin(), out.size(), out.begin());
  }

  void read(Rows x, std::span<float> out) override {
    const FloatRows rows = floats_of(x);
    for (size_t row = 0; row < rows.count; ++row) std::copy_n(rows.row(row), rows.width, out.data() + row * rows.width);
  }

  void write(std::span<const float> values, Rows out) override {
    const FloatRows rows = floats_of(out);
    for (size_t row = 0; row < rows.count; ++row) std::copy_n(values.data() + row * rows.width, rows.width, rows.row(row));
  }

 private:
  // Activations in each format that matrices may want.
  using QuantizedFormats = std::array<QuantizedRows, kernels::kTileFormats>;

  // A projection in the CPU's own terms.
  struct Product {
    const CpuMatrix* weights;
    const CpuVector* bias;  // null: none
    FloatRows out;
    bool adds;
  };

  // What one thread needs during an operation; grows to the largest use and stays.
  struct Scratch {
    std::vector<float> panel;
    std::vector<float> normed;  // a row
    std::vector<float> sums;    // [tokens][kBandRows], products that are added to their output
    QuantizedFormats quantized;
    TokenDraw draw;
  };

  template <typename Body>
  void for_rows(FloatRows rows, Body&& body) {
    if (rows.count * rows.width < kWorthSharing) {
      for (size_t row = 0; row < rows.count; ++row) body(row, 0u);
      return;
    }
    pool_.parallel_for(rows.count, body);
  }

  static Product product_of(const Projection& projection) noexcept {
    const auto* const bias = projection.bias == nullptr ? nullptr : &own<const CpuVector>(*projection.bias);
    return {&own<const CpuMatrix>(*projection.weights), bias, floats_of(projection.out), projection.adds};
  }

  static auto& of_format(auto& values, TileFormat format) noexcept { return values[static_cast<size_t>(format)]; }
  const kernels::TernaryFormatKernels& kernel_of(TileFormat format) const noexcept { return of_format(ternary_.products, format); }

  // `out` gets zeros up to the stride of `rows`.
  void norm_into(const float* row, const FloatRows& rows, const Norm& norm, float* out) const noexcept {
    kernels_.rms_norm(row, own<const CpuVector>(*norm.gain).data(), rows.width, norm.epsilon, out);
    std::fill(out + rows.width, out + rows.stride, 0.0f);
  }

  const float* norm_row(const float* row, const FloatRows& rows, const Norm& norm, Scratch& scratch) const {
    float* const out = sized(scratch.normed, rows.stride);
    norm_into(row, rows, norm, out);
    return out;
  }

  // All rows, in memory of the backend's that holds until the next call.
  FloatRows normed(FloatRows x, const Norm& norm) {
    const FloatRows out{sized(normed_, x.count * x.stride), x.count, x.width, x.stride};
    for_rows(x, [&](size_t row, unsigned) { norm_into(x.row(row), x, norm, out.row(row)); });
    return out;
  }

  // norm(x), or x where there is no norm, rounded as Projection::rounds_input says; in memory as normed() has.
  FloatRows rounded(FloatRows x, const Norm* norm) {
    const FloatRows out{sized(normed_, x.count * x.stride), x.count, x.width, x.stride};
    for_rows(x, [&](size_t row, unsigned) {
      float* const to = out.row(row);
      if (norm != nullptr) norm_into(x.row(row), x, *norm, to);
      else std::copy_n(x.row(row), x.stride, to);
      float largest = 1e-5f;
      for (size_t i = 0; i < x.width; ++i) largest = std::max(largest, std::abs(to[i]));
      const float scale = 127.0f / largest;
      for (size_t i = 0; i < x.width; ++i) to[i] = std::nearbyint(to[i] * scale) / scale;
    });
    return out;
  }

  // Norms and rotates every head of a row.
  void prepare_heads(float* row, size_t row_width, size_t head_width, const Norm* norm, const CpuRotaryTable& angles,
                     size_t position) const noexcept {
    const size_t pairs = angles.pairs();
    const float* const cosines = angles.cosines(position);
    const float* const sines = angles.sines(position);
    for (float* head = row; head < row + row_width; head += head_width) {
      if (norm != nullptr) kernels_.rms_norm(head, own<const CpuVector>(*norm->gain).data(), head_width, norm->epsilon, head);
      for (size_t i = 0; i < pairs; ++i) {
        const float a = head[i], b = head[i + pairs];
        head[i] = a * cosines[i] - b * sines[i];
        head[i + pairs] = b * cosines[i] + a * sines[i];
      }
    }
  }

  // By the largest of the formats that the matrices want.
  size_t tokens_at_once(FloatRows x) const noexcept {
    size_t largest_part = 1;
    for (const Product& product : products_) {
      const kernels::TernaryTiles* const tiles = product.weights->tiles();
      if (tiles != nullptr) largest_part = std::max(largest_part, kernel_of(tiles->format).activation_bytes(x.count));
    }
    return std::max(kFewestTokensAtOnce, ternary_.activation_bytes_at_once / (kernels::blocks_of(x.stride) * largest_part));
  }

  // Each thread norms and quantises a single token for itself: that takes less time than to wait for what another thread writes,
  // and to read it from that thread's cache.
  void multiply_at_once(FloatRows x, const Norm* norm) {
    const bool one_token = x.count == 1;
    if (!one_token) {
      if (norm != nullptr) x = normed(x, *norm);
      for_each_format([&](TileFormat format) { of_format(quantized_, format).quantize(x, kernel_of(format), pool_); });
    }
    size_t pieces = 0;
    for (const Product& product : products_) pieces += pieces_of(x, product);
    divide_into_runs(pieces);
    const auto input_of = [&](unsigned worker) {
      return one_token && norm != nullptr ? FloatRows{scratch_[worker].normed.data(), 1, x.width, x.stride} : x;
    };
    const auto prepare = [&](unsigned worker) {
      if (!one_token) return;
      Scratch& own_scratch = scratch_[worker];
      if (norm != nullptr) norm_row(x.data, x, *norm, own_scratch);
      for_each_format(
          [&](TileFormat format) { of_format(own_scratch.quantized, format).quantize(input_of(worker), kernel_of(format)); });
    };
    pool_.parallel_for(run_ends_.size(), prepare, [&](size_t run, unsigned worker) {
      Scratch& scratch = scratch_[worker];
      const QuantizedFormats& quantized = one_token ? scratch.quantized : quantized_;
      for (size_t piece = run == 0 ? 0 : run_ends_[run - 1]; piece < run_ends_[run]; ++piece) {
        multiply_piece(input_of(worker), quantized, piece, scratch);
      }
    });
  }

  // The formats that the matrices want, once each.
  template <typename Body>
  void for_each_format(Body&& body) const {
    std::array<bool, kernels::kTileFormats> seen{};
    for (const Product& product : products_) {
      const kernels::TernaryTiles* const tiles = product.weights->tiles();
      if (tiles != nullptr && !std::exchange(of_format(seen, tiles->format), true)) body(tiles->format);
    }
  }

  // The rows of a product are cut into pieces: bands of a ternary matrix, panels of a dense one.
  static size_t rows_per_piece(FloatRows x, const Product& product) noexcept {
    if (product.weights->tiles() != nullptr) return kernels::kBandRows;
    return std::clamp(kPanelFloats / x.stride, kSmallestPanelRows, kLargestPanelRows);
  }
  static size_t pieces_of(FloatRows x, const Product& product) noexcept {
    const size_t rows = rows_per_piece(x, product);
    return (product.out.width + rows - 1) / rows;
  }

  // A thread takes pieces in runs, since neighbouring bands are one stream through memory, whose next lines are asked for ahead.
  // Runs become shorter towards the end, so that the threads end together.
  void divide_into_runs(size_t pieces) {
    run_ends_.clear();
    for (size_t end = 0; end < pieces; run_ends_.push_back(end)) {
      end += std::clamp<size_t>((pieces - end) / (2 * pool_.threads()), 1, kLongestRun);
    }
  }

  // The pieces of all products are numbered one after the other.
  void multiply_piece(FloatRows x, const QuantizedFormats& quantized, size_t piece, Scratch& scratch) const {
    auto product = products_.begin();
    for (size_t count = pieces_of(x, *product); piece >= count; count = pieces_of(x, *product)) {
      piece -= count;
      ++product;
    }
    const FloatRows& out = product->out;
    const size_t most = rows_per_piece(x, *product), first = piece * most, rows = std::min(most, out.width - first);
    static_assert(kLargestPanelRows <= kernels::kBandRows);
    float* const to = product->adds ? sized(scratch.sums, x.count * kernels::kBandRows) : out.data + first;
    const size_t stride = product->adds ? kernels::kBandRows : out.stride;
    if (const kernels::TernaryTiles* const tiles = product->weights->tiles()) {
      const size_t band = first / kernels::kBandRows;
      kernel_of(tiles->format).multiply(*tiles, band, of_format(quantized, tiles->format).parts(), x.count, x.count, to, stride);
    } else {
      multiply_floats(x, *product->weights->floats(), first, rows, to, stride, scratch);
    }
    if (product->bias != nullptr) add_rows(product->bias->data() + first, 0, x.count, rows, to, stride);
    if (product->adds) add_rows(to, stride, x.count, rows, out.data + first, out.stride);
    else if (first + rows == out.width) clear_padding(out);
  }

  // to[t][r] += values[t·values_stride + r]
  static void add_rows(const float* values, size_t values_stride, size_t tokens, size_t rows, float* to, size_t stride) noexcept {
    for (size_t token = 0; token < tokens; ++token) {
      for (size_t row = 0; row < rows; ++row) to[token * stride + row] += values[token * values_stride + row];
    }
  }

  // Padding rows of a last tile have scale 0, but 0 × NaN is NaN.
  static void clear_padding(const FloatRows& out) noexcept {
    for (size_t row = 0; row < out.count; ++row) std::fill_n(out.row(row) + out.width, out.stride - out.width, 0.0f);
  }

  void multiply_floats(FloatRows x, const WeightRows& weights, size_t first, size_t rows, float* to, size_t stride,
                       Scratch& scratch) const {
    float* const panel = x.count < kernels::kPanelTokens ? nullptr : sized(scratch.panel, rows * weights.stride);
    kernels_.multiply[static_cast<size_t>(weights.type)](weights, first, rows, x.data, x.count, panel, to, stride);
  }

  ThreadPool& pool_;
  const kernels::TensorKernels& kernels_;
  const kernels::TernaryKernels& ternary_;
  const Arithmetic arithmetic_;
  PageArena arena_;
  std::vector<Scratch> scratch_;
  std::vector<size_t> run_ends_;
  std::vector<Product> products_;  // of the multiply() that is running
  std::vector<float> normed_;      // rows
  std::vector<uint32_t> step_tokens_;
  QuantizedFormats quantized_;
  CpuAttention attention_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(ThreadPool& pool, const kernels::KernelTable& kernels, Arithmetic arithmetic) {
  return std::make_unique<CpuBackend>(pool, kernels, arithmetic);
}

}  // namespace tritllm
