#include "backend/cpu/matrix.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "backend/matrix_slice.h"
#include "codec/geometry.h"

namespace tritllm {

namespace {

using kernels::kBandRows;
using kernels::padded_row;
using kernels::TileFormat;
using kernels::WeightType;

// Rows that one task of a conversion handles.
constexpr size_t kRowsPerTask = 64;

std::optional<WeightType> type_read_in_place(const SourceTensor& tensor) {
  const bool plain = tensor.interleaved_heads == 0 && tensor.offset == 0.0f;
  if (!plain || tensor.columns() % kernels::kRowPadding != 0) return std::nullopt;
  const auto address = reinterpret_cast<uintptr_t>(tensor.bytes.data());
  switch (tensor.type) {
    case ElementType::kF32: return address % sizeof(float) == 0 ? std::optional(WeightType::kFloat32) : std::nullopt;
    case ElementType::kF16: return address % sizeof(uint16_t) == 0 ? std::optional(WeightType::kFloat16) : std::nullopt;
    case ElementType::kBF16: return address % sizeof(uint16_t) == 0 ? std::optional(WeightType::kBFloat16) : std::nullopt;
    default: return std::nullopt;
  }
}

size_t element_bytes(WeightType type) noexcept { return type == WeightType::kFloat32 ? 4 : type == WeightType::kCodes ? 1 : 2; }

uint64_t first_group(const MatrixSlice& slice) noexcept { return slice.first_column / codec::kGroupSize; }
size_t group_count(const MatrixSlice& slice) noexcept {
  return static_cast<size_t>((slice.columns + codec::kGroupSize - 1) / codec::kGroupSize);
}

}  // namespace

CpuMatrix::CpuMatrix(const WeightSource& source, const MatrixSlice& slice, Arithmetic arithmetic,
                     const kernels::TernaryKernels& kernels, PageArena& arena, ThreadPool& pool) {
  const SourceTensor* const dense = source.dense();
  const MatrixSlice part = dense != nullptr ? resolved_slice(slice, dense->rows(), dense->columns())
                                            : resolved_slice(slice, source.ternary()->shape.rows, source.ternary()->shape.columns);
  rows_ = part.rows;
  columns_ = part.columns;
  if (dense != nullptr) {
    use_dense(*dense, part, pool);
    return;
  }
  const TernaryMatrix& matrix = *source.ternary();
  const auto largest = static_cast<float>(codec::largest_code(matrix.depth));
  const codec::Codebook& codebook = codebook_of_rows(matrix, part.first_row, part.rows);
  for (size_t i = 0; i < steps_.size(); ++i) steps_[i] = codebook[i] / largest;
  if (arithmetic == Arithmetic::kInteger) pack_tiles(matrix, part, kernels.formats[matrix.depth - 1], arena, pool);
  else unpack_codes(matrix, part, pool);
}

void CpuMatrix::use_dense(const SourceTensor& tensor, const MatrixSlice& slice, ThreadPool& pool) {
  const size_t stride = padded_row(static_cast<size_t>(columns_));
  const auto type = slice.columns == tensor.columns() ? type_read_in_place(tensor) : std::nullopt;
  if (type) {
    const std::byte* const first = tensor.bytes.data() + slice.first_row * stride * element_bytes(*type);
    weights_ = kernels::WeightRows{*type, first, stride, nullptr, nullptr};
    return;
  }
  floats_.assign(static_cast<size_t>(rows_) * stride, 0.0f);
  const auto width = static_cast<size_t>(columns_);
  pool.parallel_for((static_cast<size_t>(rows_) + kRowsPerTask - 1) / kRowsPerTask, [&](size_t task, unsigned) {
    const size_t end = std::min(static_cast<size_t>(rows_), (task + 1) * kRowsPerTask);
    for (size_t row = task * kRowsPerTask; row < end; ++row) {
      const uint64_t first = (slice.first_row + row) * tensor.columns() + slice.first_column;
      read_float32(tensor, first, std::span(floats_).subspan(row * stride, width));
    }
  });
  weights_ = kernels::WeightRows{WeightType::kFloat32, floats_.data(), stride, nullptr, nullptr};
}

void CpuMatrix::unpack_codes(const TernaryMatrix& matrix, const MatrixSlice& slice, ThreadPool& pool) {
  const size_t groups = group_count(slice), stride = groups * codec::kGroupSize;
  codes_.resize(static_cast<size_t>(rows_) * stride);
  scale_codes_.resize(static_cast<size_t>(rows_) * groups);
  pool.parallel_for((static_cast<size_t>(rows_) + kRowsPerTask - 1) / kRowsPerTask, [&](size_t task, unsigned) {
    const size_t first = task * kRowsPerTask, count = std::min(kRowsPerTask, static_cast<size_t>(rows_) - first);
    decode_rows(matrix, slice.first_row + first, count, first_group(slice), groups, codes_.data() + first * stride,
                scale_codes_.data() + first * groups);
  });
  weights_ = kernels::WeightRows{WeightType::kCodes, codes_.data(), stride, scale_codes_.data(), steps_.data()};
}

void CpuMatrix::pack_tiles(const TernaryMatrix& matrix, const MatrixSlice& slice, TileFormat format, PageArena& arena,
                           ThreadPool& pool) {
  scales_ = kernels::make_scale_table(steps_.data());
  kernels::TernaryTiles tiles{.format = format,
                              .tiles = kernels::tiles_of(static_cast<size_t>(rows_)),
                              .column_blocks = kernels::blocks_of(static_cast<size_t>(columns_)),
                              .blocks = nullptr,
                              .scales = &scales_};
  blocks_ = arena.take(tiles.bytes());
  tiles.blocks = blocks_.data;
  const size_t groups = group_count(slice);
  struct Band {
    std::vector<int8_t> codes;
    std::vector<uint8_t> scale_codes;
  };
  std::vector<Band> bands(pool.threads());  // one of each thread, for all that it packs
  pool.parallel_for(tiles.bands(), [&](size_t band, unsigned worker) {
    const uint64_t first_row = band * kBandRows;
    const auto rows = static_cast<size_t>(std::min<uint64_t>(kBandRows, rows_ - first_row));
    Band& decoded = bands[worker];
    decoded.codes.resize(kBandRows * groups * codec::kGroupSize);
    decoded.scale_codes.resize(kBandRows * groups);
    decode_rows(matrix, slice.first_row + first_row, rows, first_group(slice), groups, decoded.codes.data(),
                decoded.scale_codes.data());
    kernels::pack_band(format, {decoded.codes.data(), decoded.scale_codes.data(), rows, groups},
                       blocks_.data + tiles.band_offset(band));
  });
  weights_ = tiles;
}

uint64_t CpuMatrix::bytes() const noexcept {
  if (const kernels::TernaryTiles* const ternary = tiles()) return ternary->bytes();
  const kernels::WeightRows& weights = *floats();
  const uint64_t values = rows_ * weights.stride * element_bytes(weights.type);
  return weights.type == WeightType::kCodes ? values + rows_ * weights.stride / codec::kGroupSize : values;
}

void CpuMatrix::expand_row(const kernels::TensorKernels& kernels, size_t row, float* out) const noexcept {
  if (const kernels::WeightRows* const weights = floats()) {
    return kernels.expand_row[static_cast<size_t>(weights->type)](*weights, row, out);
  }
  const size_t width = padded_row(static_cast<size_t>(columns_));
  for (size_t block = 0; block < tiles()->column_blocks; ++block) {
    int8_t codes[kernels::kTileColumns];
    uint8_t scale_codes[kernels::kTileGroups];
    kernels::unpack_row(*tiles(), row, block, codes, scale_codes);
    const size_t first = block * kernels::kTileColumns;
    for (size_t i = 0; i < std::min(kernels::kTileColumns, width - first); ++i) {
      out[first + i] = static_cast<float>(codes[i]) * steps_[scale_codes[i / codec::kGroupSize]];
    }
  }
}

}  // namespace tritllm
