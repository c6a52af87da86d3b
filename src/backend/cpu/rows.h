// Owns the CPU's activations, rows of float32 that end in zeros up to a multiple of kRowPadding, and the inputs of a step in main
// memory. Rows that were never used take no memory. Does not own any operation on them.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "core/page_memory.h"
#include "kernels/tensor_kernels.h"

namespace tritllm {

// `width` floats each, `stride` floats from one to the next. The floats between width and stride are zero.
struct FloatRows {
  float* data;
  size_t count, width, stride;

  float* row(size_t index) const noexcept { return data + index * stride; }
  FloatRows slice(size_t first, size_t rows) const noexcept { return {row(first), rows, width, stride}; }
};

class CpuRowBuffer final : public RowBuffer {
 public:
  CpuRowBuffer(size_t capacity, size_t width)
      : RowBuffer(capacity, width), stride_(kernels::padded_row(width)), memory_(capacity * stride_ * sizeof(float)) {}

  FloatRows rows(size_t first, size_t count) noexcept {
    return {reinterpret_cast<float*>(memory_.data()) + first * stride_, count, width(), stride_};
  }

 private:
  size_t stride_;
  PageMemory memory_;
};

// An object of the interface as the CPU's own class. Objects of different backends never meet.
template <typename Own, typename Interface>
Own& own(Interface& object) noexcept {
  assert(dynamic_cast<Own*>(&object) != nullptr);
  return static_cast<Own&>(object);
}

inline FloatRows floats_of(Rows rows) noexcept { return own<CpuRowBuffer>(*rows.buffer).rows(rows.first, rows.count); }

class CpuVector final : public DeviceVector {
 public:
  explicit CpuVector(std::span<const float> values) : width_(values.size()), values_(kernels::padded_row(width_), 0.0f) {
    std::copy(values.begin(), values.end(), values_.begin());
  }
  size_t width() const noexcept override { return width_; }
  const float* data() const noexcept { return values_.data(); }

 private:
  size_t width_;
  std::vector<float> values_;
};

class CpuStep final : public Step {
 public:
  uint32_t tokens() const noexcept override { return static_cast<uint32_t>(tokens_.size()); }
  uint32_t scored() const noexcept override { return static_cast<uint32_t>(scored_.size()); }

  // `tokens`: those of the inputs, each chosen one in its place.
  void assign(const StepInputs& inputs, std::span<const uint32_t> tokens) {
    tokens_.assign(tokens.begin(), tokens.end());
    places_.assign(inputs.places.begin(), inputs.places.end());
    pages_.assign(inputs.pages.begin(), inputs.pages.end());
    scored_.assign(inputs.scored.begin(), inputs.scored.end());
    pages_per_sequence_ = inputs.pages_per_sequence;
  }

  uint32_t token(size_t row) const noexcept { return tokens_[row]; }
  std::span<const TokenPlace> places() const noexcept { return places_; }
  uint32_t scored_row(size_t index) const noexcept { return scored_[index]; }
  uint32_t pages_per_sequence() const noexcept { return pages_per_sequence_; }
  PageId page(uint32_t sequence, size_t index) const noexcept { return pages_[size_t{sequence} * pages_per_sequence_ + index]; }

 private:
  std::vector<uint32_t> tokens_, scored_;
  std::vector<TokenPlace> places_;
  std::vector<PageId> pages_;
  uint32_t pages_per_sequence_ = 0;
};

// Room for `count` floats: grows to the largest use and stays.
inline float* sized(std::vector<float>& room, size_t count) {
  if (room.size() < count) room.resize(count);
  return room.data();
}

}  // namespace tritllm
