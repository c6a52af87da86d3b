// Random matrices in the device layout, with the numbers that they hold in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "backend/cuda/device_memory.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/layout.h"
#include "backend/cuda/pack.h"
#include "core/half.h"

namespace tritllm::cuda {

struct RandomMatrix {
  int depth;
  int64_t rows, columns;
  std::vector<float> values;  // [rows][columns]
  DeviceArray<uint8_t> tiles;
  DeviceArray<float> steps;
  float unit = 1.0f;

  Matrix view() const { return {depth, rows, columns, tiles.data(), depth == 0 ? nullptr : steps.data(), unit}; }
};

// Uniform codes and scale codes; 27 steps of a factor of 90 between the least and the largest.
inline RandomMatrix random_matrix(int depth, int64_t rows, int64_t columns, unsigned seed) {
  std::mt19937 random(seed);
  const int64_t groups = (columns + kGroupColumns - 1) / kGroupColumns;
  const size_t bytes = tile_bytes(depth, blocks_of(columns));
  std::vector<uint8_t> tiles(static_cast<size_t>(tiles_of(rows)) * bytes);
  std::vector<float> steps(kScaleTableSize, 0.0f), values(static_cast<size_t>(rows * columns));
  for (size_t i = 0; i < 27; ++i)
    steps[i] = 0.002f * std::exp2(0.25f * static_cast<float>(i)) / static_cast<float>(largest_code(depth));
  const float unit = depth == 0 ? 0.5f : 1.0f;
  for (int64_t first = 0; first < rows; first += kTileRows) {
    const int64_t count = std::min<int64_t>(kTileRows, rows - first);
    uint8_t* tile = tiles.data() + static_cast<size_t>(first / kTileRows) * bytes;
    if (depth == 0) {
      std::vector<uint16_t> halves(static_cast<size_t>(count * columns));
      for (size_t i = 0; i < halves.size(); ++i) {
        halves[i] = half_from_float((static_cast<float>(random() % 2001) - 1000.0f) * 1e-5f);
        values[static_cast<size_t>(first * columns) + i] = unit * float_from_half(halves[i]);
      }
      pack_dense_tile(halves.data(), static_cast<int>(count), columns, tile);
      continue;
    }
    std::vector<int8_t> codes(static_cast<size_t>(count * groups * kGroupColumns));
    std::vector<uint8_t> scale_codes(static_cast<size_t>(count * groups));
    const auto levels = static_cast<unsigned>(2 * largest_code(depth) + 1);
    for (int8_t& code : codes) code = static_cast<int8_t>(static_cast<int>(random() % levels) - largest_code(depth));
    for (uint8_t& code : scale_codes) code = static_cast<uint8_t>(random() % 27);
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t column = 0; column < columns; ++column) {
        const auto group = static_cast<size_t>(row * groups + column / kGroupColumns);
        const int code = codes[group * kGroupColumns + static_cast<size_t>(column % kGroupColumns)];
        values[static_cast<size_t>((first + row) * columns + column)] = static_cast<float>(code) * steps[scale_codes[group]];
      }
    }
    pack_tile(depth, {codes.data(), scale_codes.data(), static_cast<int>(count), static_cast<int>(groups)}, tile);
  }
  return {depth, rows, columns, std::move(values), DeviceArray<uint8_t>(tiles), DeviceArray<float>(steps), unit};
}

}  // namespace tritllm::cuda
