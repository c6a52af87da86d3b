// Owns the numbers that fix the codec's shape: group, line, depth, levels, and how many groups and bytes a matrix makes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace tritllm::codec {

inline constexpr size_t kGroupSize = 16;     // weights that share a scale
inline constexpr size_t kLineGroups = 5;     // groups whose trits share bytes: 3^5 = 243 values fit in one
inline constexpr size_t kCodebookSize = 27;  // scales in a codebook: a scale code is three trits
inline constexpr size_t kScaleTrits = 3;
inline constexpr int kMaxDepth = 4;

// A group whose largest magnitude is below this is a zero group. The bound is far below FP16's smallest number (2^-24), and high
// enough that the squared sums of the step search, of the order of magnitude^3, stay normal float32 numbers.
inline constexpr float kSmallestScale = 0x1p-40f;

// The largest magnitude of a weight that the codec takes: beyond FP16's range, which ends at 65504, and low enough that the cubes
// of magnitudes in the step search stay far below the end of float32's.
inline constexpr float kLargestWeight = 0x1p32f;

// The largest code at a depth: (3^depth − 1)/2.
constexpr int largest_code(int depth) noexcept { return depth == 1 ? 1 : depth == 2 ? 4 : depth == 3 ? 13 : 40; }

// A matrix, or a stack of experts as one matrix: the rows of all experts, one expert after the other.
struct MatrixShape {
  uint64_t rows = 0;
  uint64_t columns = 0;
  uint64_t experts = 0;  // each has its own codebook and rows / experts rows; 0: not a stack, one codebook

  uint64_t weights() const noexcept { return rows * columns; }
  uint64_t groups_per_row() const noexcept { return (columns + kGroupSize - 1) / kGroupSize; }
  uint64_t groups() const noexcept { return rows * groups_per_row(); }
  uint64_t lines() const noexcept { return (groups() + kLineGroups - 1) / kLineGroups; }
  uint64_t codebooks() const noexcept { return std::max<uint64_t>(1, experts); }
  uint64_t groups_per_codebook() const noexcept { return rows / codebooks() * groups_per_row(); }
  uint64_t trit_bytes(int depth) const noexcept { return static_cast<uint64_t>(depth) * lines() * kGroupSize; }
  uint64_t scale_bytes() const noexcept { return lines() * kScaleTrits; }
  uint64_t codebook_bytes() const noexcept { return codebooks() * kCodebookSize * sizeof(float); }
  uint64_t stored_bytes(int depth) const noexcept { return trit_bytes(depth) + scale_bytes() + codebook_bytes(); }
};

// Information content: (depth + 3/16)·log2 3 bits a weight.
inline double nominal_bits_per_weight(int depth) { return (depth + 3.0 / 16.0) * std::log2(3.0); }

}  // namespace tritllm::codec
