// Owns the specification of the integer kernels, one weight after the other. The other instruction sets give the same bits.
#include "kernels/ternary_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/instruction_sets.h"

namespace tritllm::kernels::scalar {
namespace {

bool all_finite(const float* x) noexcept {
  return std::all_of(x, x + 16, [](float value) { return std::isfinite(value); });
}

// Of columns 0, 1 of every 4, and of columns 2, 3.
struct Halves {
  float first, second;
};
Halves sums_of_magnitudes(const float* x) noexcept {
  float columns[4];
  for (size_t i = 0; i < 4; ++i) columns[i] = (std::abs(x[i]) + std::abs(x[i + 4])) + (std::abs(x[i + 8]) + std::abs(x[i + 12]));
  return {columns[0] + columns[1], columns[2] + columns[3]};
}

// NaN or infinity where an activation is NaN or infinite.
float reach_of(const float* x, TileFormat format) noexcept {
  if (!all_finite(x)) return NAN;
  float largest = 0.0f;
  for (size_t i = 0; i < 16; ++i) largest = std::max(largest, std::abs(x[i]));
  if (!halves_may_overflow(format)) return largest;
  const Halves halves = sums_of_magnitudes(x);
  return std::max(largest, std::max(halves.first, halves.second) * reach_of_half(format));
}

ActivationGroup quantize_group(const float* x, TileFormat format) noexcept {
  ActivationGroup group{};
  const float reach = reach_of(x, format);
  if (!std::isfinite(reach)) {
    group.scale = NAN;
    return group;
  }
  if (reach < kLeastActivation) return group;
  group.scale = reach / 127.0f;
  const float inverse = 127.0f / reach;
  int32_t sums[2] = {};
  for (size_t i = 0; i < 16; ++i) {
    group.values[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
    sums[i % 4 / 2] += group.values[i];
  }
  const int32_t centre = -format_largest_code(format);
  for (size_t i = 0; i < 2; ++i) group.offsets[i] = static_cast<int16_t>(centre * sums[i]);
  group.offset = centre * (sums[0] + sums[1]);
  return group;
}

ActivationBlock quantize_block(const float* x, size_t groups, TileFormat format) noexcept {
  ActivationBlock block{};
  for (size_t group = 0; group < groups; ++group) block.groups[group] = quantize_group(x + group * 16, format);
  return block;
}

FineActivations quantize_finely(const float* x, size_t groups) noexcept {
  FineActivations block{};
  float reach = 0.0f;
  for (size_t group = 0; group < groups; ++group) {
    const Halves halves = sums_of_magnitudes(x + group * 16);
    const float sum = all_finite(x + group * 16) ? halves.first + halves.second : NAN;
    if (!std::isfinite(sum)) {
      block.scale = NAN;
      return block;
    }
    reach = std::max(reach, sum);
  }
  if (reach < kLeastActivation) return block;
  block.scale = reach / kFineReach;
  const float inverse = kFineReach / reach;
  for (size_t i = 0; i < groups * 16; ++i) block.values[i] = static_cast<int16_t>(std::nearbyint(x[i] * inverse));
  return block;
}

template <TileFormat kFormat>
struct Product {
  static constexpr bool kFine = format_depth(kFormat) == 1;
  using Block = std::conditional_t<kFine, FineActivations, ActivationBlock>;

  static size_t activation_bytes(size_t) noexcept { return sizeof(Block); }

  static void quantize(const float* x, size_t columns, size_t, void* out, size_t out_stride) noexcept {
    for (size_t block = 0; block < blocks_of(columns); ++block) {
      const size_t column = block * kTileColumns, groups = std::min(kTileGroups, (columns - column) / 16);
      Block& to = static_cast<Block*>(out)[block * out_stride];
      if constexpr (kFine) to = quantize_finely(x + column, groups);
      else to = quantize_block(x + column, groups, kFormat);
    }
  }

  template <typename Value>
  static int32_t scaled_sum(const int8_t* codes, const Value* values, int32_t multiple) noexcept {
    int32_t sum = 0;
    for (size_t i = 0; i < 16; ++i) sum += codes[i] * values[i];
    return sum * multiple;
  }

  // Adds a row's products with a block of columns.
  static void add_row(const int8_t* codes, const uint8_t* scale_codes, const int32_t* multiples, const Block& x,
                      float& to) noexcept {
    if constexpr (kFine) {
      const int32_t first = scaled_sum(codes, x.values, multiples[scale_codes[0]]);
      const int32_t second = scaled_sum(codes + 16, x.values + 16, multiples[scale_codes[1]]);
      to = std::fma(static_cast<float>(first + second), x.scale, to);
    } else {
      for (size_t group = 0; group < kTileGroups; ++group) {
        const int32_t sum = scaled_sum(codes + group * 16, x.groups[group].values, multiples[scale_codes[group]]);
        to = std::fma(static_cast<float>(sum), x.groups[group].scale, to);
      }
    }
  }

  // Codes are taken out of their fields a block at a time, so that the layout has one description only.
  static void multiply(const TernaryTiles& matrix, size_t band, const void* x, size_t x_stride, size_t tokens, float* y,
                       size_t y_stride) noexcept {
    const size_t tiles = matrix.tiles_in_band(band), rows = tiles * kTileRows;
    for (size_t token = 0; token < tokens; ++token) std::fill_n(y + token * y_stride, rows, 0.0f);
    for (size_t block = 0; block < matrix.column_blocks; ++block) {
      int8_t codes[kBandRows * kTileColumns];
      uint8_t scale_codes[kBandRows * kTileGroups];
      unpack_band(kFormat, matrix.blocks + matrix.band_offset(band) + block * tiles * block_bytes(kFormat),
                  {codes, scale_codes, rows, kTileGroups});
      for (size_t token = 0; token < tokens; ++token) {
        const Block& inputs = static_cast<const Block*>(x)[block * x_stride + token];
        for (size_t row = 0; row < rows; ++row) {
          add_row(codes + row * kTileColumns, scale_codes + row * kTileGroups, matrix.scales->multiples, inputs,
                  y[token * y_stride + row]);
        }
      }
    }
    for (size_t token = 0; token < tokens; ++token) {
      for (size_t row = 0; row < rows; ++row) y[token * y_stride + row] *= matrix.scales->unit;
    }
  }

  static constexpr TernaryFormatKernels functions() noexcept { return {activation_bytes, quantize, multiply}; }
};

constexpr TernaryKernels kTable{
    .name = "scalar",
    .most_exact_tokens = SIZE_MAX,
    .activation_bytes_at_once = kUsualActivationBytesAtOnce,
    .products = {Product<TileFormat::kTriples>::functions(), Product<TileFormat::kFourBits>::functions(),
                 Product<TileFormat::kFiveBits>::functions(), Product<TileFormat::kPairsOf13Bits>::functions(),
                 Product<TileFormat::kPairsOf7Bits>::functions()},
    .formats = {TileFormat::kTriples, TileFormat::kFourBits, TileFormat::kFiveBits, TileFormat::kPairsOf13Bits},
};

}  // namespace

const TernaryKernels& ternary_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::scalar
