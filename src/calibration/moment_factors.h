// Owns what rounding needs to know of a product's inputs, made from their moments: the factors of feedback, the order of the
// columns and the target that makes good what earlier matrices have lost. Does not own the rounding (codec/feedback_rounding.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/algebra.h"
#include "calibration/input_moments.h"
#include "codec/feedback_rounding.h"
#include "codec/geometry.h"
#include "core/thread_pool.h"

namespace tritllm {

struct ConditioningOptions {
  // Added to the diagonal of the moments, as a part of its mean: moments of few tokens are not to be trusted in directions that
  // those tokens hardly had.
  double damping = 0.03;
  // How far the targets go from the source's weights to those that make all earlier losses good. All the way fits the calibration
  // text and nothing else (docs/lab/2026-11-calibration.md).
  double shift = 0.5;
};

class MomentFactors {
 public:
  // Throws an Error of kBadInput where the moments are not finite.
  // `algebra` outlives it.
  MomentFactors(const InputMoments& moments, const ConditioningOptions& options, Algebra& algebra, ThreadPool& pool);

  // Columns are those of whole groups, in falling order of the groups' energy.
  const codec::FeedbackFactors& factors() const noexcept { return factors_; }
  // targets: [rows][those columns].
  void round_rows(const codec::Codebook& codebook, int depth, std::span<const float> targets, codec::RoundedRows& out) const;
  size_t columns() const noexcept { return columns_; }
  // What a unit of the factors' error is in Σ w·|e·x|².
  double unit() const noexcept { return mean_; }
  // order()[i] is the group of the matrix that stands i-th in the factors.
  std::span<const uint32_t> order() const noexcept { return order_; }
  // What a squared error of each column counts, in the matrix's own order, padding included: mean 1, within the codec's bounds.
  std::vector<float> importance() const;

  // weights: [rows][columns()], changed in place to what is to be rounded. `takes_residual`: the moments' residual belongs to these
  // rows.
  void shift_targets(std::span<float> weights, bool takes_residual) const;

 private:
  void factor(std::vector<double>&& conditioned, bool shifts);
  void factor_groups(const std::vector<double>& conditioned);
  size_t place(size_t column) const noexcept {
    return order_[column / codec::kGroupSize] * codec::kGroupSize + column % codec::kGroupSize;
  }

  Algebra& algebra_;
  ThreadPool& pool_;
  ConditioningOptions options_;
  size_t columns_, padded_;
  double mean_ = 1.0;  // of the moments' diagonal
  std::vector<uint32_t> order_;
  codec::FeedbackFactors factors_;
  std::unique_ptr<RoundingFactors> kept_factors_;
  // Null where targets are not shifted. U with Uᵀ·U = H⁻¹ of the conditioned moments, in their order, [padded][padded], and across.
  std::unique_ptr<AlgebraMatrix> upper_, upper_across_;
  std::unique_ptr<AlgebraMatrix> cross_minus_inputs_;  // (C − H) / mean, [columns][columns], in the matrix's order
  std::vector<float> residual_;                        // R / mean, [rows][columns]
};

}  // namespace tritllm
