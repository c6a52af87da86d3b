#include "backend/cpu_matrix.h"

#include <algorithm>

#include "codec/geometry.h"

namespace tritllm {

namespace {

using kernels::padded_row;
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

}  // namespace

CpuMatrix::CpuMatrix(const WeightSource& source, ThreadPool& pool) {
  std::visit([&](const auto& matrix) { adopt(matrix, pool); }, source);
}

void CpuMatrix::adopt(const SourceTensor& tensor, ThreadPool& pool) {
  rows_ = tensor.rows();
  columns_ = tensor.columns();
  const size_t stride = padded_row(static_cast<size_t>(columns_));
  if (const auto type = type_read_in_place(tensor)) {
    weights_ = {*type, tensor.bytes.data(), stride, nullptr, nullptr};
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
  weights_ = {WeightType::kFloat32, floats_.data(), stride, nullptr, nullptr};
}

void CpuMatrix::adopt(const TernaryMatrix& matrix, ThreadPool& pool) {
  rows_ = matrix.shape.rows;
  columns_ = matrix.shape.columns;
  // Groups stand in row-major order, each row padded to whole groups: decoded one after the other they are the padded rows.
  const auto lines = static_cast<size_t>(matrix.shape.lines());
  codes_.resize(lines * codec::kLineGroups * codec::kGroupSize);
  entries_.resize(lines * codec::kLineGroups);
  pool.parallel_for((lines + kLinesPerTask - 1) / kLinesPerTask, [&](size_t task, unsigned) {
    const size_t first = task * kLinesPerTask, group = first * codec::kLineGroups;
    decode_lines(matrix, first, std::min(kLinesPerTask, lines - first), codes_.data() + group * codec::kGroupSize,
                 entries_.data() + group);
  });
  const auto largest = static_cast<float>(codec::largest_code(matrix.depth));
  for (const float scale : matrix.codebook) steps_.push_back(scale / largest);
  weights_ = {WeightType::kCodes, codes_.data(), padded_row(static_cast<size_t>(columns_)), entries_.data(), steps_.data()};
}

uint64_t CpuMatrix::bytes() const noexcept {
  const uint64_t values = rows_ * weights_.stride * element_bytes(weights_.type);
  return weights_.type == WeightType::kCodes ? values + rows_ * weights_.stride / codec::kGroupSize : values;
}

}  // namespace tritllm
