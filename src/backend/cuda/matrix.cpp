#include "backend/cuda/matrix.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <vector>

#include "backend/cuda/layout.h"
#include "backend/cuda/pack.h"
#include "backend/matrix_slice.h"
#include "codec/geometry.h"
#include "core/half.h"

namespace tritllm::cuda {
namespace {

static_assert(kGroupColumns == static_cast<int>(codec::kGroupSize) && kMaxDepth == codec::kMaxDepth);

}  // namespace

CudaMatrix::CudaMatrix(Context& context, const WeightSource& source, const MatrixSlice& slice, ThreadPool& pool,
                       const PinnedMemory& staging) {
  if (const SourceTensor* const tensor = source.dense()) {
    use_dense(context, *tensor, resolved_slice(slice, tensor->rows(), tensor->columns()), pool, staging);
  } else {
    const TernaryMatrix& matrix = *source.ternary();
    use_ternary(context, matrix, resolved_slice(slice, matrix.shape.rows, matrix.shape.columns), pool, staging);
  }
  context.wait();
  source.release();
}

// Calls pack_tile(first row of the tile, rows, worker, where it goes) for all tiles, and copies them a staging buffer at a time.
template <typename PackTile>
void CudaMatrix::pack(Context& context, ThreadPool& pool, const PinnedMemory& staging, PackTile&& pack_tile) {
  const size_t bytes = tile_bytes(view_.depth, blocks_of(view_.columns)), tiles = static_cast<size_t>(tiles_of(view_.rows));
  tiles_.emplace(context, tiles * bytes);
  view_.tiles = tiles_->as<void>();
  // A tile that does not fit is packed into memory of its own.
  std::vector<uint8_t> large(bytes > staging.bytes() ? bytes : 0);
  uint8_t* const room = large.empty() ? staging.as<uint8_t>() : large.data();
  const size_t at_once = std::max<size_t>(1, staging.bytes() / bytes);
  for (size_t first = 0; first < tiles; first += at_once) {
    const size_t count = std::min(at_once, tiles - first);
    context.wait();  // for the copy out of the room
    pool.parallel_for(count, [&](size_t tile, unsigned worker) {
      const auto row = static_cast<int64_t>((first + tile) * kTileRows);
      pack_tile(static_cast<uint64_t>(row), static_cast<int>(std::min<int64_t>(kTileRows, view_.rows - row)), worker,
                room + tile * bytes);
    });
    context.upload(room, tiles_->as<uint8_t>() + first * bytes, count * bytes);
  }
}

void CudaMatrix::use_ternary(Context& context, const TernaryMatrix& matrix, const MatrixSlice& slice, ThreadPool& pool,
                             const PinnedMemory& staging) {
  view_.depth = matrix.depth;
  view_.rows = static_cast<int64_t>(slice.rows);
  view_.columns = static_cast<int64_t>(slice.columns);
  std::array<float, kScaleTableSize> steps{};
  const auto largest = static_cast<float>(codec::largest_code(matrix.depth));
  const codec::Codebook& codebook = codebook_of_rows(matrix, slice.first_row, slice.rows);
  for (size_t i = 0; i < codebook.size(); ++i) steps[i] = codebook[i] / largest;
  steps_.emplace(context, sizeof steps);
  context.upload(steps.data(), steps_->as<void>(), sizeof steps);
  view_.steps = steps_->as<float>();

  struct Scratch {
    std::vector<int8_t> codes;
    std::vector<uint8_t> scale_codes;
  };
  std::vector<Scratch> scratch(pool.threads());
  const auto first_group = static_cast<size_t>(slice.first_column / codec::kGroupSize);
  const auto groups = static_cast<size_t>((slice.columns + codec::kGroupSize - 1) / codec::kGroupSize);
  pack(context, pool, staging, [&](uint64_t row, int rows, unsigned worker, uint8_t* tile) {
    auto& [codes, scale_codes] = scratch[worker];
    codes.resize(static_cast<size_t>(rows) * groups * codec::kGroupSize);
    scale_codes.resize(static_cast<size_t>(rows) * groups);
    decode_rows(matrix, slice.first_row + row, static_cast<size_t>(rows), first_group, groups, codes.data(), scale_codes.data());
    pack_tile(view_.depth, {codes.data(), scale_codes.data(), rows, static_cast<int>(groups)}, tile);
  });
  context.wait();  // `steps` goes
}

// Halves hold what float16 holds exactly, and what bfloat16 holds but for numbers 2^29 times smaller than the largest, once the
// largest is brought to 2^14 by a power of two.
void CudaMatrix::use_dense(Context& context, const SourceTensor& tensor, const MatrixSlice& slice, ThreadPool& pool,
                           const PinnedMemory& staging) {
  view_.depth = 0;
  view_.rows = static_cast<int64_t>(slice.rows);
  view_.columns = static_cast<int64_t>(slice.columns);
  const auto columns = static_cast<size_t>(slice.columns);
  std::vector<std::vector<float>> rooms(pool.threads());
  const auto read_row = [&](uint64_t row, float* out) {
    read_float32(tensor, (slice.first_row + row) * tensor.columns() + slice.first_column, std::span(out, columns));
  };
  if (tensor.type != ElementType::kF16 || tensor.offset != 0.0f) {
    constexpr size_t kRowsAtOnce = 64;
    std::vector<float> largest(pool.threads(), 0.0f);
    const auto rows = static_cast<size_t>(slice.rows);
    pool.parallel_for((rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](size_t part, unsigned worker) {
      std::vector<float>& values = rooms[worker];
      values.resize(columns);
      for (size_t row = part * kRowsAtOnce; row < std::min(rows, (part + 1) * kRowsAtOnce); ++row) {
        read_row(row, values.data());
        for (const float value : values) {
          if (std::isfinite(value)) largest[worker] = std::max(largest[worker], std::abs(value));
        }
      }
    });
    const float top = *std::ranges::max_element(largest);
    constexpr int kExponent = 14;
    if (top > 0.0f) view_.unit = std::ldexp(1.0f, std::clamp(std::ilogb(top) - kExponent, -120, 120));
  }
  const bool exact = tensor.type == ElementType::kF32;
  std::vector<float> all(exact ? static_cast<size_t>(slice.rows) * columns : 0);
  std::vector<std::vector<uint16_t>> halves(pool.threads());
  pack(context, pool, staging, [&](uint64_t first_row, int rows, unsigned worker, uint8_t* tile) {
    std::vector<float>& values = rooms[worker];
    values.resize(columns);
    halves[worker].resize(static_cast<size_t>(rows) * columns);
    for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
      read_row(first_row + row, values.data());
      if (exact) std::ranges::copy(values, all.begin() + static_cast<std::ptrdiff_t>((first_row + row) * columns));
      for (size_t i = 0; i < columns; ++i) halves[worker][row * columns + i] = half_from_float(values[i] / view_.unit);
    }
    pack_dense_tile(halves[worker].data(), rows, static_cast<int64_t>(columns), tile);
  });
  if (exact) {
    floats_.emplace(context, all.size() * sizeof(float));
    context.upload(all.data(), floats_->as<void>(), all.size() * sizeof(float));
    context.wait();
  }
}

}  // namespace tritllm::cuda
