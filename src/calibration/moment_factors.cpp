#include "calibration/moment_factors.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "codec/geometry.h"
#include "codec/quantizer.h"
#include "core/error.h"

namespace tritllm {

namespace {

using codec::kGroupSize;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// U, upper, with Uᵀ·U = H⁻¹. With J for the reversal of rows and columns and J·H·J = L·Lᵀ it is J·L⁻¹·J.
Matrix inverse_factor(const Matrix& moments) {
  const Matrix reversed = moments.reverse();
  const Eigen::LLT<Matrix> cholesky(reversed);
  if (cholesky.info() != Eigen::Success)
    throw Error(ErrorCode::kBadInput, "calibration", "the moments of the inputs are not positive definite",
                "give more or other text (options.calibration.files)");
  Matrix inverse = Matrix::Identity(moments.rows(), moments.cols());
  cholesky.matrixL().solveInPlace(inverse);
  return inverse.reverse();
}

// What an error of column i adds to the targets of later ones, and what is left of the squared error of column j.
void feedback_of(const Matrix& upper, float* feedback, float* variances) {
  for (Eigen::Index i = 0; i < upper.rows(); ++i) {
    for (Eigen::Index j = 0; j < upper.cols(); ++j)
      feedback[i * upper.cols() + j] = j > i ? static_cast<float>(-upper(i, j) / upper(i, i)) : 0.0f;
    variances[i] = static_cast<float>(1.0 / (upper(i, i) * upper(i, i)));
  }
}

constexpr size_t kRowsOfTask = 32;

// out = left·right, with right [inner][columns].
void multiply_rows(std::span<const float> left, size_t inner, std::span<const float> right, size_t columns, std::span<float> out,
                   const codec::GroupKernels& kernels) {
  std::ranges::fill(out, 0.0f);
  kernels.add_product(left.data(), inner, right.data(), columns, inner, out.data(), columns, left.size() / inner, columns);
}

}  // namespace

MomentFactors::MomentFactors(const InputMoments& moments, const ConditioningOptions& options, const codec::GroupKernels& kernels,
                             ThreadPool& pool)
    : kernels_(kernels),
      options_(options),
      columns_(moments.inputs.columns()),
      padded_((columns_ + kGroupSize - 1) / kGroupSize * kGroupSize) {
  const std::span<const double> sums = moments.inputs.sums();
  std::vector<double> energy(padded_ / kGroupSize);
  double trace = 0;
  for (size_t i = 0; i < columns_; ++i) {
    energy[i / kGroupSize] += sums[i * columns_ + i];
    trace += sums[i * columns_ + i];
  }
  if (!std::isfinite(trace))
    throw Error(ErrorCode::kBadInput, "calibration", "inputs of the model are NaN or infinite",
                "measure its perplexity: the model may be damaged");
  // Inputs that are always zero say nothing; then every column counts the same.
  mean_ = trace > 0 ? trace / static_cast<double>(columns_) : 1.0;
  order_.resize(energy.size());
  std::iota(order_.begin(), order_.end(), 0u);
  std::ranges::stable_sort(order_, [&](uint32_t a, uint32_t b) { return energy[a] > energy[b]; });

  std::vector<double> conditioned(padded_ * padded_);
  const auto source_column = [&](size_t i) { return order_[i / kGroupSize] * kGroupSize + i % kGroupSize; };
  pool.parallel_for(padded_, [&](size_t i, unsigned) {
    const size_t row = source_column(i);
    for (size_t j = 0; row < columns_ && j < padded_; ++j) {
      const size_t column = source_column(j);
      if (column < columns_) conditioned[i * padded_ + j] = sums[row * columns_ + column] / mean_;
    }
    conditioned[i * padded_ + i] += options_.damping;
    if (trace <= 0 || row >= columns_) conditioned[i * padded_ + i] += 1.0;
  });
  factor(conditioned);
  factor_groups(conditioned);

  if (options_.shift == 0.0 || moments.cross.empty()) return;
  cross_minus_inputs_.resize(columns_ * columns_);
  for (size_t i = 0; i < cross_minus_inputs_.size(); ++i)
    cross_minus_inputs_[i] = static_cast<float>((moments.cross.sums()[i] - sums[i]) / mean_);
  residual_.resize(moments.residual.sums().size());
  for (size_t i = 0; i < residual_.size(); ++i) residual_[i] = static_cast<float>(moments.residual.sums()[i] / mean_);
}

void MomentFactors::factor(const std::vector<double>& conditioned) {
  const auto size = static_cast<Eigen::Index>(padded_);
  const Matrix upper = inverse_factor(Eigen::Map<const Matrix>(conditioned.data(), size, size));
  factors_.columns = padded_;
  factors_.moments.assign(conditioned.begin(), conditioned.end());
  factors_.feedback.resize(padded_ * padded_);
  factors_.variances.resize(padded_);
  feedback_of(upper, factors_.feedback.data(), factors_.variances.data());
  upper_.resize(padded_ * padded_);
  upper_transposed_.resize(padded_ * padded_);
  const Matrix lower = upper.transpose();
  std::copy_n(upper.data(), upper_.size(), upper_.begin());
  std::copy_n(lower.data(), upper_.size(), upper_transposed_.begin());
}

void MomentFactors::factor_groups(const std::vector<double>& conditioned) {
  const size_t groups = padded_ / kGroupSize, square = kGroupSize * kGroupSize;
  factors_.group_inverse.resize(groups * square);
  factors_.group_feedback.resize(groups * square);
  factors_.group_variances.resize(groups * kGroupSize);
  for (size_t group = 0; group < groups; ++group) {
    Matrix block(kGroupSize, kGroupSize);
    for (size_t i = 0; i < kGroupSize; ++i)
      std::copy_n(conditioned.data() + (group * kGroupSize + i) * padded_ + group * kGroupSize, kGroupSize,
                  block.data() + i * kGroupSize);
    const Matrix upper = inverse_factor(block), inverse = upper.transpose() * upper;
    feedback_of(upper, factors_.group_feedback.data() + group * square, factors_.group_variances.data() + group * kGroupSize);
    for (size_t i = 0; i < square; ++i) factors_.group_inverse[group * square + i] = static_cast<float>(inverse.data()[i]);
  }
}

std::vector<float> MomentFactors::importance() const {
  double sum = 0;
  for (const float variance : factors_.variances) sum += variance;
  const double mean = sum / static_cast<double>(padded_);
  std::vector<float> importance(padded_);
  for (size_t i = 0; i < padded_; ++i) {
    importance[order_[i / kGroupSize] * kGroupSize + i % kGroupSize] =
        std::clamp(static_cast<float>(factors_.variances[i] / mean), codec::kLeastImportance, codec::kMostImportance);
  }
  return importance;
}

// The best weights for the inputs x̂ are W + (W·(C − H) + R)·H⁻¹.
void MomentFactors::shift_targets(std::span<float> weights, bool takes_residual, ThreadPool& pool) const {
  if (cross_minus_inputs_.empty()) return;
  const size_t rows = weights.size() / columns_;
  pool.parallel_for((rows + kRowsOfTask - 1) / kRowsOfTask, [&](size_t task, unsigned) {
    const size_t first = task * kRowsOfTask, count = std::min(kRowsOfTask, rows - first);
    const std::span<float> mine = weights.subspan(first * columns_, count * columns_);
    std::vector<float> lost(count * columns_);
    multiply_rows(mine, columns_, cross_minus_inputs_, columns_, lost, kernels_);
    if (takes_residual && !residual_.empty()) {
      for (size_t i = 0; i < lost.size(); ++i) lost[i] += residual_[first * columns_ + i];
    }
    std::vector<float> ordered(count * padded_), half(count * padded_);
    const auto place = [&](size_t i) { return order_[i / kGroupSize] * kGroupSize + i % kGroupSize; };
    for (size_t r = 0; r < count; ++r) {
      for (size_t i = 0; i < padded_; ++i) {
        if (place(i) < columns_) ordered[r * padded_ + i] = lost[r * columns_ + place(i)];
      }
    }
    multiply_rows(ordered, padded_, upper_transposed_, padded_, half, kernels_);
    multiply_rows(half, padded_, upper_, padded_, ordered, kernels_);
    const auto shift = static_cast<float>(options_.shift);
    for (size_t r = 0; r < count; ++r) {
      for (size_t i = 0; i < padded_; ++i) {
        if (place(i) < columns_) mine[r * columns_ + place(i)] += shift * ordered[r * padded_ + i];
      }
    }
  });
}

}  // namespace tritllm
