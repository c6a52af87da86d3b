#include "backend/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "backend/cpu_attention.h"
#include "backend/cpu_cache.h"
#include "backend/cpu_matrix.h"
#include "backend/quantized_rows.h"
#include "backend/scratch.h"

namespace tritllm {

namespace {

using kernels::padded_row;
using kernels::TileFormat;
using kernels::WeightRows;

// Floats of a panel of expanded weights: half of a usual second-level cache.
constexpr size_t kPanelFloats = 128 * 1024;
constexpr size_t kLargestPanelRows = 64, kSmallestPanelRows = 8;
// Of fewer tokens at once the weights would be read too often.
constexpr size_t kFewestTokensAtOnce = 16;
// Pieces of a product that a thread takes at once, at most.
constexpr size_t kLongestRun = 8;
// An operation on fewer elements is done before another thread would have woken.
constexpr size_t kWorthSharing = 16 * 1024;

class CpuBuffer final : public DeviceBuffer {
 public:
  explicit CpuBuffer(size_t floats) : values_(floats, 0.0f) {}
  float* data() noexcept override { return values_.data(); }

 private:
  std::vector<float> values_;
};

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

  std::unique_ptr<DeviceMatrix> upload_matrix(const WeightSource& source) override {
    return std::make_unique<CpuMatrix>(source, arithmetic_, ternary_, arena_, pool_);
  }

  DeviceVector upload_vector(std::span<const float> values) override {
    DeviceVector vector{std::make_unique<CpuBuffer>(padded_row(values.size())), values.size()};
    std::copy(values.begin(), values.end(), vector.buffer->data());
    return vector;
  }

  RowStorage allocate_rows(size_t capacity, size_t width) override {
    const size_t stride = padded_row(width);
    return {std::make_unique<CpuBuffer>(capacity * stride), capacity, width, stride};
  }

  std::unique_ptr<KeyValueCache> make_cache(const CacheShape& shape) override { return std::make_unique<CpuCache>(shape); }

  std::unique_ptr<RotaryTable> make_rotary_table(const RotaryFrequencies& frequencies, uint32_t positions) override {
    return std::make_unique<CpuRotaryTable>(frequencies, positions);
  }

  void embed(const DeviceMatrix& table, std::span<const uint32_t> tokens, float scale, Rows out) override {
    const auto& matrix = static_cast<const CpuMatrix&>(table);
    for_rows(out, [&](size_t row) {
      float* const to = out.data + row * out.stride;
      matrix.expand_row(kernels_, tokens[row], to);
      if (scale != 1.0f) std::transform(to, to + out.width, to, [&](float value) { return value * scale; });
    });
  }

  void rms_norm(Rows x, const DeviceVector& gain, float epsilon, Rows out) override {
    for_rows(out, [&](size_t row) {
      for (size_t part = 0; part < x.width; part += gain.width) {
        kernels_.rms_norm(x.data + row * x.stride + part, gain.buffer->data(), gain.width, epsilon,
                          out.data + row * out.stride + part);
      }
    });
  }

  void multiply(Rows x, std::span<const Projection> projections) override {
    const size_t most = tokens_at_once(x, projections), parts = (x.count + most - 1) / most;
    if (parts <= 1) return multiply_at_once(x, projections);
    part_projections_.assign(projections.begin(), projections.end());
    for (size_t part = 0; part < parts; ++part) {
      const size_t first = x.count * part / parts, count = x.count * (part + 1) / parts - first;
      for (size_t i = 0; i < projections.size(); ++i) part_projections_[i].out = slice(projections[i].out, first, count);
      multiply_at_once(slice(x, first, count), part_projections_);
    }
  }

  void rotate(Rows x, uint32_t heads, const RotaryTable& table, std::span<const TokenPlace> places) override {
    const auto& angles = static_cast<const CpuRotaryTable&>(table);
    const size_t pairs = angles.pairs(), width = x.width / heads;
    for_rows(x, [&](size_t row) {
      const float* const cosines = angles.cosines(places[row].position);
      const float* const sines = angles.sines(places[row].position);
      for (size_t head = 0; head < heads; ++head) {
        float* const low = x.data + row * x.stride + head * width;
        float* const high = low + pairs;
        for (size_t i = 0; i < pairs; ++i) {
          const float a = low[i], b = high[i];
          low[i] = a * cosines[i] - b * sines[i];
          high[i] = b * cosines[i] + a * sines[i];
        }
      }
    });
  }

  void store(KeyValueCache& cache, uint32_t layer, Rows keys, Rows values, std::span<const TokenPlace> places) override {
    auto& rows = static_cast<CpuCache&>(cache);
    const auto store_row = [&](size_t row) {
      rows.store_keys(layer, places[row], keys.data + row * keys.stride);
      rows.store_values(layer, places[row], values.data + row * values.stride);
    };
    if (keys.count * keys.width < kWorthSharing) {
      for (size_t row = 0; row < keys.count; ++row) store_row(row);
      return;
    }
    // Neighbouring positions lie in the same lines of memory: a thread takes as many as a tile has.
    pool_.parallel_for((keys.count + kernels::kCacheTile - 1) / kernels::kCacheTile, [&](size_t tile, unsigned) {
      const size_t first = tile * kernels::kCacheTile, end = std::min(first + kernels::kCacheTile, keys.count);
      for (size_t row = first; row < end; ++row) store_row(row);
    });
  }

  void attend(Rows queries, const KeyValueCache& cache, const AttentionSettings& settings, std::span<const TokenPlace> places,
              Rows out) override {
    attention_.attend(queries, static_cast<const CpuCache&>(cache), settings, places, out);
  }

  void gate(Activation activation, Rows gate, Rows up, Rows out) override {
    const auto kernel = kernels_.gate[static_cast<size_t>(activation)];
    for_rows(out, [&](size_t row) {
      kernel(gate.data + row * gate.stride, up.data + row * up.stride, out.width, out.data + row * out.stride);
    });
  }

  void add(Rows x, Rows to) override {
    for_rows(to, [&](size_t row) {
      const float* const from = x.data + row * x.stride;
      float* const sum = to.data + row * to.stride;
      for (size_t i = 0; i < to.width; ++i) sum[i] += from[i];
    });
  }

  void gather(Rows x, std::span<const uint32_t> indices, Rows out) override {
    for (size_t i = 0; i < indices.size(); ++i) std::copy_n(x.data + indices[i] * x.stride, x.width, out.data + i * out.stride);
  }

  void read(Rows x, std::span<float> out) override {
    for (size_t row = 0; row < x.count; ++row) std::copy_n(x.data + row * x.stride, x.width, out.data() + row * x.width);
  }

 private:
  // Activations in each form that matrices may want.
  using QuantizedForms = std::array<QuantizedRows, kernels::kTileFormats>;

  // Room that one thread needs during an operation; grows to the largest use and stays.
  struct Scratch {
    std::vector<float> panel;
    QuantizedForms quantized;
  };

  template <typename Body>
  void for_rows(Rows rows, Body&& body) {
    if (rows.count * rows.width < kWorthSharing) {
      for (size_t row = 0; row < rows.count; ++row) body(row);
      return;
    }
    pool_.parallel_for(rows.count, [&](size_t row, unsigned) { body(row); });
  }

  static const CpuMatrix& matrix_of(const Projection& projection) noexcept {
    return static_cast<const CpuMatrix&>(*projection.weights);
  }

  static auto& of_form(auto& values, TileFormat form) noexcept { return values[static_cast<size_t>(form)]; }
  const kernels::TernaryProduct& product_of(TileFormat form) const noexcept { return of_form(ternary_.products, form); }

  static Rows slice(Rows rows, size_t first, size_t count) noexcept {
    return {rows.data + first * rows.stride, count, rows.width, rows.stride};
  }

  // By the largest of the forms that the matrices want.
  size_t tokens_at_once(Rows x, std::span<const Projection> projections) const noexcept {
    size_t largest_part = 1;
    for (const Projection& projection : projections) {
      const kernels::TernaryTiles* const tiles = matrix_of(projection).tiles();
      if (tiles != nullptr) largest_part = std::max(largest_part, product_of(tiles->format).activation_bytes(x.count));
    }
    return std::max(kFewestTokensAtOnce, ternary_.activation_bytes_at_once / (kernels::blocks_of(x.stride) * largest_part));
  }

  // A single token's activations are made ready by each thread for itself: that takes less time than to wait for what another
  // thread writes, and to read it from that thread's cache.
  void multiply_at_once(Rows x, std::span<const Projection> projections) {
    const bool one_token = x.count == 1;
    if (!one_token) {
      for_each_form(projections, [&](TileFormat form) { of_form(quantized_, form).quantize(x, product_of(form), pool_); });
    }
    size_t pieces = 0;
    for (const Projection& projection : projections) pieces += pieces_of(x, projection);
    divide_into_runs(pieces);
    const auto prepare = [&](unsigned worker) {
      if (!one_token) return;
      QuantizedForms& own = scratch_[worker].quantized;
      for_each_form(projections, [&](TileFormat form) { of_form(own, form).quantize(x, product_of(form)); });
    };
    pool_.parallel_for(run_ends_.size(), prepare, [&](size_t run, unsigned worker) {
      Scratch& scratch = scratch_[worker];
      const QuantizedForms& quantized = one_token ? scratch.quantized : quantized_;
      for (size_t piece = run == 0 ? 0 : run_ends_[run - 1]; piece < run_ends_[run]; ++piece) {
        multiply_piece(x, quantized, projections, piece, scratch);
      }
    });
  }

  // Those that the matrices want, once each.
  template <typename Body>
  static void for_each_form(std::span<const Projection> projections, Body&& body) {
    std::array<bool, kernels::kTileFormats> seen{};
    for (const Projection& projection : projections) {
      const kernels::TernaryTiles* const tiles = matrix_of(projection).tiles();
      if (tiles != nullptr && !std::exchange(of_form(seen, tiles->format), true)) body(tiles->format);
    }
  }

  // A product's rows are cut into pieces: bands of a ternary matrix, panels of one of floats.
  static size_t rows_per_piece(Rows x, const Projection& projection) noexcept {
    if (matrix_of(projection).tiles() != nullptr) return kernels::kBandRows;
    return std::clamp(kPanelFloats / x.stride, kSmallestPanelRows, kLargestPanelRows);
  }
  static size_t pieces_of(Rows x, const Projection& projection) noexcept {
    const size_t rows = rows_per_piece(x, projection);
    return (projection.out.width + rows - 1) / rows;
  }

  // A thread takes pieces in runs, since neighbouring bands are one stream through memory, whose next lines are asked for ahead.
  // Runs become shorter towards the end, so that the threads end together.
  void divide_into_runs(size_t pieces) {
    run_ends_.clear();
    for (size_t end = 0; end < pieces; run_ends_.push_back(end)) {
      end += std::clamp<size_t>((pieces - end) / (2 * pool_.threads()), 1, kLongestRun);
    }
  }

  // Of all projections' pieces, one behind the other.
  void multiply_piece(Rows x, const QuantizedForms& quantized, std::span<const Projection> projections, size_t piece,
                      Scratch& scratch) const {
    auto projection = projections.begin();
    for (size_t own = pieces_of(x, *projection); piece >= own; own = pieces_of(x, *projection)) {
      piece -= own;
      ++projection;
    }
    const size_t count = rows_per_piece(x, *projection), first = piece * count;
    const size_t rows = std::min(count, projection->out.width - first);
    if (const kernels::TernaryTiles* const tiles = matrix_of(*projection).tiles())
      multiply_band(of_form(quantized, tiles->format), *tiles, first, projection->out);
    else multiply_floats(x, *projection, first, rows, scratch);
    if (first + rows == projection->out.width) clear_padding(projection->out);
    add_bias(*projection, first, rows);
  }

  void multiply_band(const QuantizedRows& x, const kernels::TernaryTiles& tiles, size_t first, Rows out) const {
    product_of(tiles.format)
        .multiply(tiles, first / kernels::kBandRows, x.parts(), out.count, out.count, out.data + first, out.stride);
  }

  // The rows that fill a last tile have scales of zero, but zero times what is no number is none either.
  static void clear_padding(Rows out) noexcept {
    for (size_t row = 0; row < out.count; ++row) std::fill_n(out.data + row * out.stride + out.width, out.stride - out.width, 0.0f);
  }

  void multiply_floats(Rows x, const Projection& projection, size_t first, size_t rows, Scratch& scratch) const {
    const WeightRows& weights = *matrix_of(projection).floats();
    const Rows& out = projection.out;
    float* const panel = x.count < kernels::kPanelTokens ? nullptr : sized(scratch.panel, rows * weights.stride);
    kernels_.multiply[static_cast<size_t>(weights.type)](weights, first, rows, x.data, x.count, panel, out.data + first,
                                                         out.stride);
  }

  static void add_bias(const Projection& projection, size_t first, size_t rows) {
    if (projection.bias == nullptr) return;
    const float* const bias = projection.bias->buffer->data() + first;
    for (size_t token = 0; token < projection.out.count; ++token) {
      float* const out = projection.out.data + token * projection.out.stride + first;
      for (size_t row = 0; row < rows; ++row) out[row] += bias[row];
    }
  }

  ThreadPool& pool_;
  const kernels::TensorKernels& kernels_;
  const kernels::TernaryKernels& ternary_;
  const Arithmetic arithmetic_;
  PageArena arena_;
  std::vector<Scratch> scratch_;
  std::vector<size_t> run_ends_;
  std::vector<Projection> part_projections_;
  QuantizedForms quantized_;
  CpuAttention attention_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(ThreadPool& pool, const kernels::KernelTable& kernels, Arithmetic arithmetic) {
  return std::make_unique<CpuBackend>(pool, kernels, arithmetic);
}

}  // namespace tritllm
