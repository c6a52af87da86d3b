#include "codec/feedback_rounding.h"

#include <algorithm>

#include "codec/geometry.h"

namespace tritllm::codec {
namespace {

// Some rows of a matrix while they are rounded.
class Rows {
 public:
  Rows(const FeedbackFactors& factors, const Codebook& codebook, int depth, std::span<const float> targets,
       const GroupKernels& kernels)
      : factors_(factors),
        codebook_(codebook),
        largest_code_(largest_code(depth)),
        kernels_(kernels),
        columns_(factors.columns),
        rows_(targets.size() / columns_),
        groups_(columns_ / kGroupSize),
        targets_(targets),
        codes_(groups_ * rows_ * kGroupSize),
        scale_codes_(groups_ * rows_),
        decoded_(groups_ * rows_ * kGroupSize),
        block_(rows_ * kGroupSize),
        errors_(rows_ * kGroupSize),
        former_(rows_ * kGroupSize) {}

  // Every group in turn; what it loses goes into the targets of the columns after it.
  void round_with_feedback() {
    std::vector<float> targets(targets_.begin(), targets_.end());
    for (size_t group = 0; group < groups_; ++group) {
      const size_t first = group * kGroupSize, end = first + kGroupSize;
      for (size_t r = 0; r < rows_; ++r)
        std::copy_n(targets.data() + r * columns_ + first, kGroupSize, block_.data() + r * kGroupSize);
      std::vector<float> inside(kGroupSize * kGroupSize);
      for (size_t i = 0; i < kGroupSize; ++i)
        std::copy_n(factors_.feedback.data() + (first + i) * columns_ + first, kGroupSize, inside.data() + i * kGroupSize);
      round_block(group, inside.data(), factors_.variances.data() + first, /*is_rounded=*/false);
      kernels_.add_product(errors_.data(), kGroupSize, factors_.feedback.data() + first * columns_ + end, columns_, kGroupSize,
                           targets.data() + end, columns_, rows_, columns_ - end);
    }
  }

  // Sweeps of block descent. With G = (t − q)·H, the best values of a group given all others are q + G·H_gg⁻¹.
  void descend(int sweeps) {
    if (sweeps == 0) return;
    gradient_.assign(rows_ * columns_, 0.0f);
    for (size_t group = 0; group < groups_; ++group) {
      for (size_t r = 0; r < rows_; ++r) {
        for (size_t i = 0; i < kGroupSize; ++i)
          block_[r * kGroupSize + i] = targets_[r * columns_ + group * kGroupSize + i] - decoded_of(group)[r * kGroupSize + i];
      }
      add_moments(group);
    }
    for (int sweep = 0; sweep < sweeps; ++sweep) {
      for (size_t group = 0; group < groups_; ++group) improve_group(group);
    }
  }

  void store(RoundedRows& out) {
    out.error = 0;
    for (size_t i = 0; i < gradient_.size(); ++i) {
      const size_t row = i / columns_, column = i % columns_;
      const float decoded = decoded_of(column / kGroupSize)[row * kGroupSize + column % kGroupSize];
      out.error += (double{targets_[i]} - double{decoded}) * double{gradient_[i]};
    }
    out.codes.resize(rows_ * columns_);
    out.scale_codes.resize(rows_ * groups_);
    for (size_t r = 0; r < rows_; ++r) {
      for (size_t group = 0; group < groups_; ++group) {
        const int8_t* const codes = codes_.data() + (group * rows_ + r) * kGroupSize;
        std::copy_n(codes, kGroupSize, out.codes.data() + r * columns_ + group * kGroupSize);
        // A zero group has scale code 0, as the other recipes have it.
        const bool is_zero = std::all_of(codes, codes + kGroupSize, [](int8_t code) { return code == 0; });
        out.scale_codes[r * groups_ + group] = is_zero ? uint8_t{0} : scale_codes_[group * rows_ + r];
      }
    }
  }

 private:
  float* decoded_of(size_t group) noexcept { return decoded_.data() + group * rows_ * kGroupSize; }

  // block_ holds the targets; errors_ holds what is left of them afterwards.
  void round_block(size_t group, const float* feedback, const float* variances, bool is_rounded) {
    kernels_.round_with_feedback({feedback, variances, codebook_.data(), largest_code_}, block_.data(), rows_,
                                 {codes_.data() + group * rows_ * kGroupSize, scale_codes_.data() + group * rows_,
                                  decoded_of(group), errors_.data(), is_rounded});
  }

  // gradient_ += block_·H of the group's rows of H.
  void add_moments(size_t group) {
    kernels_.add_product(block_.data(), kGroupSize, factors_.moments.data() + group * kGroupSize * columns_, columns_, kGroupSize,
                         gradient_.data(), columns_, rows_, columns_);
  }

  void improve_group(size_t group) {
    const size_t first = group * kGroupSize, square = group * kGroupSize * kGroupSize;
    float* const decoded = decoded_of(group);
    std::copy_n(decoded, former_.size(), former_.data());
    std::copy_n(decoded, former_.size(), block_.data());
    kernels_.add_product(gradient_.data() + first, columns_, factors_.group_inverse.data() + square, kGroupSize, kGroupSize,
                         block_.data(), kGroupSize, rows_, kGroupSize);
    round_block(group, factors_.group_feedback.data() + square, factors_.group_variances.data() + first, /*is_rounded=*/true);
    bool changes = false;
    for (size_t i = 0; i < block_.size(); ++i) {
      block_[i] = former_[i] - decoded[i];
      changes = changes || block_[i] != 0.0f;
    }
    if (changes) add_moments(group);
  }

  const FeedbackFactors& factors_;
  const Codebook& codebook_;
  const int largest_code_;
  const GroupKernels& kernels_;
  const size_t columns_, rows_, groups_;
  std::span<const float> targets_;
  std::vector<int8_t> codes_;                   // [groups][rows][16]
  std::vector<uint8_t> scale_codes_;            // [groups][rows]
  std::vector<float> decoded_;                  // [groups][rows][16]
  std::vector<float> gradient_;                 // [rows][columns]: (t − q)·H
  std::vector<float> block_, errors_, former_;  // [rows][16] of one group
};

}  // namespace

void round_rows(const FeedbackFactors& factors, const Codebook& codebook, int depth, std::span<const float> targets,
                const GroupKernels& kernels, RoundedRows& out, int sweeps) {
  Rows rows(factors, codebook, depth, targets, kernels);
  rows.round_with_feedback();
  rows.descend(sweeps);
  rows.store(out);
}

}  // namespace tritllm::codec
