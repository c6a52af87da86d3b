// Owns the interface behind which calibration's large products are computed, on the host or on a CUDA device: products of float32
// matrices, sums over tokens, factors of moments, and the rounding of rows with feedback. Does not own what they are for
// (src/calibration).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "codec/codebook.h"
#include "codec/feedback_rounding.h"

namespace tritllm {

// A float32 matrix, [rows][columns], where the products are computed.
class AlgebraMatrix {
 public:
  AlgebraMatrix(size_t rows, size_t columns) : rows_(rows), columns_(columns) {}
  virtual ~AlgebraMatrix() = default;
  size_t rows() const noexcept { return rows_; }
  size_t columns() const noexcept { return columns_; }

 private:
  size_t rows_, columns_;
};

// Σ_t weight_t·x_t·y_tᵀ, [rows][columns] for x of `rows` and y of `columns` elements. Tokens are added in the order of the calls,
// in float32 within a call and in float64 from call to call.
class MomentSums {
 public:
  MomentSums(size_t rows, size_t columns) : rows_(rows), columns_(columns) {}
  virtual ~MomentSums() = default;
  size_t rows() const noexcept { return rows_; }
  size_t columns() const noexcept { return columns_; }

  // x: [tokens][rows], y: [tokens][columns], weights: [tokens].
  virtual void add(std::span<const float> x, std::span<const float> y, std::span<const float> weights) = 0;
  // The same for y = x, where it may cost half. Not mixed with add().
  virtual void add_symmetric(std::span<const float> x, std::span<const float> weights) = 0;
  // [rows][columns] on the host, after the last call of add. Valid until this is destroyed.
  virtual std::span<const double> sums() = 0;

 private:
  size_t rows_, columns_;
};

// Factors of feedback where rows are rounded.
class RoundingFactors {
 public:
  virtual ~RoundingFactors() = default;
};

// Results do not depend on timing nor on the number of threads. Devices differ in the last bits. Everything that an Algebra makes
// is destroyed before it. An Algebra is used by one thread at a time.
class Algebra {
 public:
  virtual ~Algebra() = default;

  // values: [rows][columns].
  virtual std::unique_ptr<AlgebraMatrix> keep(std::vector<float> values, size_t rows, size_t columns) = 0;
  // The matrix across: values are [columns][rows].
  virtual std::unique_ptr<AlgebraMatrix> keep_across(const std::vector<float>& values, size_t rows, size_t columns) = 0;
  // out = left·right, [any number of rows][right.columns()], for left of [those rows][right.rows()].
  virtual void multiply(std::span<const float> left, const AlgebraMatrix& right, std::vector<float>& out) = 0;
  std::vector<float> product(std::span<const float> left, const AlgebraMatrix& right) {
    std::vector<float> out;
    multiply(left, right, out);
    return out;
  }

  virtual std::unique_ptr<MomentSums> make_sums(size_t rows, size_t columns) = 0;  // zeros

  // A symmetric matrix H, [size][size], becomes U, upper, with Uᵀ·U = H⁻¹. False where H is not positive definite.
  virtual bool invert_factor(std::span<double> matrix, size_t size) = 0;

  // `factors` outlives what this returns.
  virtual std::unique_ptr<RoundingFactors> keep(const codec::FeedbackFactors& factors) = 0;
  // codec::round_rows() of any number of rows.
  virtual void round_rows(const RoundingFactors& factors, const codec::Codebook& codebook, int depth,
                          std::span<const float> targets, codec::RoundedRows& out) = 0;
};

}  // namespace tritllm
