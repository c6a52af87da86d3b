#include "backend/cpu_matrix.h"

#include <algorithm>
#include <optional>

#include "codec/geometry.h"

namespace tritllm {

namespace {

using kernels::kBandRows;
using kernels::padded_row;
using kernels::TileFormat;
using kernels::WeightType;

// Lines of groups, or rows of floats, that one task of a conversion handles.
constexpr size_t kLinesPerTask = 1024, kRowsPerTask = 64;

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

// Groups of consecutive rows, taken out of the packed lines around them.
class DecodedRows {
 public:
  DecodedRows(const TernaryMatrix& matrix, uint64_t first_row, size_t rows) : rows_(rows) {
    groups_ = static_cast<size_t>(matrix.shape.groups_per_row());
    const uint64_t first = first_row * groups_, last = first + rows * groups_;
    const uint64_t first_line = first / codec::kLineGroups, end_line = (last + codec::kLineGroups - 1) / codec::kLineGroups;
    const auto lines = static_cast<size_t>(end_line - first_line);
    skipped_ = static_cast<size_t>(first - first_line * codec::kLineGroups);
    codes_.resize(lines * codec::kLineGroups * codec::kGroupSize);
    scale_codes_.resize(lines * codec::kLineGroups);
    decode_lines(matrix, first_line, lines, codes_.data(), scale_codes_.data());
  }

  kernels::SourceRows rows() const noexcept {
    return {codes_.data() + skipped_ * codec::kGroupSize, scale_codes_.data() + skipped_, rows_, groups_};
  }

 private:
  size_t rows_, groups_, skipped_;
  std::vector<int8_t> codes_;
  std::vector<uint8_t> scale_codes_;
};

}  // namespace

CpuMatrix::CpuMatrix(const WeightSource& source, Arithmetic arithmetic, const kernels::TernaryKernels& kernels, PageArena& arena,
                     ThreadPool& pool) {
  if (const auto* const tensor = std::get_if<SourceTensor>(&source)) {
    adopt(*tensor, pool);
    return;
  }
  const auto& matrix = std::get<TernaryMatrix>(source);
  rows_ = matrix.shape.rows;
  columns_ = matrix.shape.columns;
  const auto largest = static_cast<float>(codec::largest_code(matrix.depth));
  for (size_t entry = 0; entry < steps_.size(); ++entry) steps_[entry] = matrix.codebook[entry] / largest;
  if (arithmetic == Arithmetic::kInteger) adopt_tiles(matrix, kernels.formats[matrix.depth - 1], arena, pool);
  else adopt_codes(matrix, pool);
}

void CpuMatrix::adopt(const SourceTensor& tensor, ThreadPool& pool) {
  rows_ = tensor.rows();
  columns_ = tensor.columns();
  const size_t stride = padded_row(static_cast<size_t>(columns_));
  if (const auto type = type_read_in_place(tensor)) {
    weights_ = kernels::WeightRows{*type, tensor.bytes.data(), stride, nullptr, nullptr};
    return;
  }
  floats_.assign(static_cast<size_t>(rows_) * stride, 0.0f);
  const auto width = static_cast<size_t>(columns_);
  pool.parallel_for((static_cast<size_t>(rows_) + kRowsPerTask - 1) / kRowsPerTask, [&](size_t task, unsigned) {
    const size_t end = std::min(static_cast<size_t>(rows_), (task + 1) * kRowsPerTask);
    for (size_t row = task * kRowsPerTask; row < end; ++row) {
      read_float32(tensor, row * width, std::span(floats_).subspan(row * stride, width));
    }
  });
  weights_ = kernels::WeightRows{WeightType::kFloat32, floats_.data(), stride, nullptr, nullptr};
}

void CpuMatrix::adopt_codes(const TernaryMatrix& matrix, ThreadPool& pool) {
  // Groups stand in row-major order, each row padded to whole groups: decoded one after the other they are the padded rows.
  const auto lines = static_cast<size_t>(matrix.shape.lines());
  codes_.resize(lines * codec::kLineGroups * codec::kGroupSize);
  scale_codes_.resize(lines * codec::kLineGroups);
  pool.parallel_for((lines + kLinesPerTask - 1) / kLinesPerTask, [&](size_t task, unsigned) {
    const size_t first = task * kLinesPerTask, group = first * codec::kLineGroups;
    decode_lines(matrix, first, std::min(kLinesPerTask, lines - first), codes_.data() + group * codec::kGroupSize,
                 scale_codes_.data() + group);
  });
  weights_ = kernels::WeightRows{WeightType::kCodes, codes_.data(), padded_row(static_cast<size_t>(columns_)), scale_codes_.data(),
                                 steps_.data()};
}

void CpuMatrix::adopt_tiles(const TernaryMatrix& matrix, TileFormat format, PageArena& arena, ThreadPool& pool) {
  scales_ = kernels::make_scale_table(steps_.data());
  kernels::TernaryTiles tiles{.format = format,
                              .tiles = kernels::tiles_of(static_cast<size_t>(rows_)),
                              .column_blocks = kernels::blocks_of(static_cast<size_t>(columns_)),
                              .blocks = nullptr,
                              .scales = &scales_};
  blocks_ = arena.take(tiles.bytes());
  tiles.blocks = blocks_.data;
  pool.parallel_for(tiles.bands(), [&](size_t band, unsigned) {
    const uint64_t first_row = band * kBandRows;
    const DecodedRows decoded(matrix, first_row, static_cast<size_t>(std::min<uint64_t>(kBandRows, rows_ - first_row)));
    kernels::pack_band(format, decoded.rows(), blocks_.data + tiles.band_offset(band));
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
