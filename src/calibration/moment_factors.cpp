#include "calibration/moment_factors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "calibration/host_algebra.h"
#include "codec/quantizer.h"
#include "core/error.h"

namespace tritllm {

namespace {

using codec::kGroupSize;

// Rows whose targets are shifted together.
constexpr size_t kShiftedRows = 4096;

Error not_positive_definite() {
  return {ErrorCode::kBadInput, "calibration", "the moments of the inputs are not positive definite",
          "give more or other text (options.calibration.files)"};
}

// Of row i of U, [size] columns: what an error of column i adds to the targets of later ones.
void feedback_of(const double* row, size_t i, size_t size, float* feedback) {
  for (size_t j = 0; j < size; ++j) feedback[j] = j > i ? static_cast<float>(-row[j] / row[i]) : 0.0f;
}

// What is left of the squared error of column i.
float variance_of(const double* row, size_t i) { return static_cast<float>(1.0 / (row[i] * row[i])); }

}  // namespace

MomentFactors::MomentFactors(const InputMoments& moments, const ConditioningOptions& options, Algebra& algebra, ThreadPool& pool)
    : algebra_(algebra),
      pool_(pool),
      options_(options),
      columns_(moments.inputs->columns()),
      padded_((columns_ + kGroupSize - 1) / kGroupSize * kGroupSize) {
  const std::span<const double> sums = moments.inputs->sums();
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
  pool_.parallel_for(padded_, [&](size_t i, unsigned) {
    const size_t row = place(i);
    for (size_t j = 0; row < columns_ && j < padded_; ++j) {
      const size_t column = place(j);
      if (column < columns_) conditioned[i * padded_ + j] = sums[row * columns_ + column] / mean_;
    }
    conditioned[i * padded_ + i] += options_.damping;
    if (trace <= 0 || row >= columns_) conditioned[i * padded_ + i] += 1.0;
  });
  factor_groups(conditioned);
  const bool shifts = options_.shift != 0.0 && moments.cross != nullptr;
  factor(std::move(conditioned), shifts);
  kept_factors_ = algebra_.keep(factors_);
  if (!shifts) return;

  const std::span<const double> cross = moments.cross->sums();
  std::vector<float> difference(columns_ * columns_);
  pool_.parallel_for(columns_, [&](size_t row, unsigned) {
    for (size_t i = row * columns_; i < (row + 1) * columns_; ++i) difference[i] = static_cast<float>((cross[i] - sums[i]) / mean_);
  });
  cross_minus_inputs_ = algebra_.keep(std::move(difference), columns_, columns_);
  if (!moments.residual) return;
  const std::span<const double> residual = moments.residual->sums();
  residual_.resize(residual.size());
  pool_.parallel_for(moments.residual->rows(), [&](size_t row, unsigned) {
    for (size_t i = row * columns_; i < (row + 1) * columns_; ++i) residual_[i] = static_cast<float>(residual[i] / mean_);
  });
}

void MomentFactors::factor(std::vector<double>&& conditioned, bool shifts) {
  factors_.columns = padded_;
  factors_.moments.resize(padded_ * padded_);
  factors_.feedback.resize(padded_ * padded_);
  factors_.variances.resize(padded_);
  const auto for_rows = [&](auto&& body) {
    pool_.parallel_for(padded_, [&](size_t i, unsigned) { body(i, conditioned.data() + i * padded_); });
  };
  for_rows([&](size_t i, const double* row) {
    std::transform(row, row + padded_, factors_.moments.data() + i * padded_, [](double x) { return static_cast<float>(x); });
  });
  if (!algebra_.invert_factor(conditioned, padded_)) throw not_positive_definite();
  for_rows([&](size_t i, const double* row) {
    feedback_of(row, i, padded_, factors_.feedback.data() + i * padded_);
    factors_.variances[i] = variance_of(row, i);
  });
  if (!shifts) return;
  std::vector<float> upper(padded_ * padded_);
  for_rows([&](size_t i, const double* row) {
    std::transform(row, row + padded_, upper.data() + i * padded_, [](double x) { return static_cast<float>(x); });
  });
  upper_across_ = algebra_.keep_across(upper, padded_, padded_);
  upper_ = algebra_.keep(std::move(upper), padded_, padded_);
}

void MomentFactors::factor_groups(const std::vector<double>& conditioned) {
  constexpr size_t kSquare = kGroupSize * kGroupSize;
  const size_t groups = padded_ / kGroupSize;
  factors_.group_inverse.resize(groups * kSquare);
  factors_.group_feedback.resize(groups * kSquare);
  factors_.group_variances.resize(groups * kGroupSize);
  for (size_t group = 0; group < groups; ++group) {
    std::array<double, kSquare> upper;
    for (size_t i = 0; i < kGroupSize; ++i)
      std::copy_n(conditioned.data() + (group * kGroupSize + i) * padded_ + group * kGroupSize, kGroupSize,
                  upper.data() + i * kGroupSize);
    if (!invert_factor(upper, kGroupSize)) throw not_positive_definite();
    for (size_t i = 0; i < kGroupSize; ++i) {
      const double* const row = upper.data() + i * kGroupSize;
      feedback_of(row, i, kGroupSize, factors_.group_feedback.data() + group * kSquare + i * kGroupSize);
      factors_.group_variances[group * kGroupSize + i] = variance_of(row, i);
      for (size_t j = 0; j < kGroupSize; ++j) {
        double inverse = 0;  // of Uᵀ·U
        for (size_t k = 0; k < kGroupSize; ++k) inverse += upper[k * kGroupSize + i] * upper[k * kGroupSize + j];
        factors_.group_inverse[group * kSquare + i * kGroupSize + j] = static_cast<float>(inverse);
      }
    }
  }
}

void MomentFactors::round_rows(const codec::Codebook& codebook, int depth, std::span<const float> targets,
                               codec::RoundedRows& out) const {
  algebra_.round_rows(*kept_factors_, codebook, depth, targets, out);
}

std::vector<float> MomentFactors::importance() const {
  double sum = 0;
  for (const float variance : factors_.variances) sum += variance;
  const double mean = sum / static_cast<double>(padded_);
  std::vector<float> importance(padded_);
  for (size_t i = 0; i < padded_; ++i) {
    importance[place(i)] =
        std::clamp(static_cast<float>(factors_.variances[i] / mean), codec::kLeastImportance, codec::kMostImportance);
  }
  return importance;
}

// The best weights for the inputs x̂ are W + (W·(C − H) + R)·H⁻¹.
void MomentFactors::shift_targets(std::span<float> weights, bool takes_residual) const {
  if (!cross_minus_inputs_) return;
  const size_t rows = weights.size() / columns_;
  const auto shift = static_cast<float>(options_.shift);
  for (size_t first = 0; first < rows; first += kShiftedRows) {
    const size_t count = std::min(kShiftedRows, rows - first);
    const std::span<float> mine = weights.subspan(first * columns_, count * columns_);
    const std::vector<float> lost = algebra_.product(mine, *cross_minus_inputs_);
    std::vector<float> ordered(count * padded_);
    const bool adds = takes_residual && !residual_.empty();
    pool_.parallel_for(count, [&](size_t r, unsigned) {
      for (size_t i = 0; i < padded_; ++i) {
        const size_t at = r * columns_ + place(i);
        if (place(i) < columns_) ordered[r * padded_ + i] = adds ? lost[at] + residual_[first * columns_ + at] : lost[at];
      }
    });
    const std::vector<float> change = algebra_.product(algebra_.product(ordered, *upper_across_), *upper_);
    pool_.parallel_for(count, [&](size_t r, unsigned) {
      for (size_t i = 0; i < padded_; ++i) {
        if (place(i) < columns_) mine[r * columns_ + place(i)] += shift * change[r * padded_ + i];
      }
    });
  }
}

}  // namespace tritllm
