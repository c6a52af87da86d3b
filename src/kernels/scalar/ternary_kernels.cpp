// Owns the specification of the integer kernels, one weight after the other. The other instruction sets give the same bits.
#include "kernels/ternary_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/instruction_sets.h"

namespace tritllm::kernels::scalar {
namespace {

// NaN or infinity where an activation is no finite number.
float reach_of(const float* x, TileFormat format) noexcept {
  float largest = 0.0f, columns[4];
  for (size_t i = 0; i < 16; ++i) {
    if (!std::isfinite(x[i])) return NAN;
    largest = std::max(largest, std::abs(x[i]));
  }
  if (!halves_may_overflow(format)) return largest;
  for (size_t i = 0; i < 4; ++i) columns[i] = (std::abs(x[i]) + std::abs(x[i + 4])) + (std::abs(x[i + 8]) + std::abs(x[i + 12]));
  return std::max(largest, std::max(columns[0] + columns[1], columns[2] + columns[3]) * reach_of_half(format));
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

void quantize(const float* x, size_t columns, TileFormat format, size_t, ActivationBlock* out, size_t out_stride) noexcept {
  for (size_t block = 0; block < blocks_of(columns); ++block) {
    for (size_t group = 0; group < kTileGroups; ++group) {
      const size_t column = (block * kTileGroups + group) * 16;
      out[block * out_stride].groups[group] = column < columns ? quantize_group(x + column, format) : ActivationGroup{};
    }
  }
}

// Codes are taken out of their fields a block at a time, so that the layout has one description only.
template <TileFormat kFormat>
void multiply(const TernaryTiles& matrix, size_t band, const ActivationBlock* x, size_t x_stride, size_t tokens, float* y,
              size_t y_stride) noexcept {
  const size_t tiles = matrix.tiles_in_band(band), rows = tiles * kTileRows;
  for (size_t token = 0; token < tokens; ++token) std::fill_n(y + token * y_stride, rows, 0.0f);
  for (size_t block = 0; block < matrix.column_blocks; ++block) {
    int8_t codes[kBandRows * kTileColumns];
    uint8_t entries[kBandRows * kTileGroups];
    unpack_band(kFormat, matrix.blocks + matrix.band_offset(band) + block * tiles * block_bytes(kFormat),
                {codes, entries, rows, kTileGroups});
    for (size_t token = 0; token < tokens; ++token) {
      for (size_t row = 0; row < rows; ++row) {
        float& out = y[token * y_stride + row];
        for (size_t g = 0; g < kTileGroups; ++g) {
          const ActivationGroup& group = x[block * x_stride + token].groups[g];
          int32_t sum = 0;
          for (size_t i = 0; i < 16; ++i) sum += codes[row * kTileColumns + g * 16 + i] * group.values[i];
          const int32_t scaled = sum * matrix.scales->multiples[entries[row * kTileGroups + g]];
          out = std::fma(static_cast<float>(scaled), group.scale, out);
        }
      }
    }
  }
  for (size_t token = 0; token < tokens; ++token) {
    for (size_t row = 0; row < rows; ++row) y[token * y_stride + row] *= matrix.scales->unit;
  }
}

constexpr TernaryKernels kTable{
    .name = "scalar",
    .most_exact_tokens = SIZE_MAX,
    .quantize = quantize,
    .multiply = {multiply<TileFormat::kTwoBits>, multiply<TileFormat::kFourBits>, multiply<TileFormat::kFiveBits>,
                 multiply<TileFormat::kSevenBits>, multiply<TileFormat::kSqueezedFourBits>},
    .formats = {TileFormat::kTwoBits, TileFormat::kFourBits, TileFormat::kFiveBits, TileFormat::kSevenBits},
};

}  // namespace

const TernaryKernels& ternary_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::scalar
