// Owns the way of codes and scale codes, or of dense weights, into the device layout and back, on the host. Does not own the layout
// itself (layout.h) nor the copy to the device (matrix.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

namespace tritllm::cuda {

// Up to 16 rows of a matrix as the codec gives them: codes [rows][16·groups], −H to H; scale codes [rows][groups], 0 to 26.
struct TileCodes {
  const int8_t* codes;
  const uint8_t* scale_codes;
  int rows, groups;
};

// One tile of tile_bytes(depth, blocks_of(16·groups)) bytes, depths 1 to 4. Missing rows and groups become empty.
void pack_tile(int depth, const TileCodes& source, uint8_t* tile) noexcept;
// The reverse; `codes` and `scale_codes` have room for `rows` rows of `groups` groups.
void unpack_tile(int depth, const uint8_t* tile, int rows, int groups, int8_t* codes, uint8_t* scale_codes) noexcept;

// The same for dense weights at depth 0: halves [rows][columns], any number of columns.
void pack_dense_tile(const uint16_t* halves, int rows, int64_t columns, uint8_t* tile) noexcept;
void unpack_dense_tile(const uint8_t* tile, int rows, int64_t columns, uint16_t* halves) noexcept;

}  // namespace tritllm::cuda
