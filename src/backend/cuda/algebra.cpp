// Calibration's products on a CUDA device: those of matrices are cuBLAS's, rounding is algebra.cu's.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "backend/algebra.h"
#include "backend/cuda/algebra_launch.h"
#include "backend/cuda/context.h"
#include "backend/cuda/cublas.h"
#include "backend/cuda/devices.h"
#include "codec/geometry.h"
#include "core/error.h"

namespace tritllm {
namespace cuda {
namespace {

// Rows that are rounded together, for the sake of memory: four floats for each weight.
constexpr int64_t kRowsTogether = 4096;
// Columns of a step of the Cholesky factorisation, whose diagonal block the host does.
constexpr int64_t kCholeskyColumns = 128;

int64_t signed_size(size_t size) noexcept { return static_cast<int64_t>(size); }

// Device memory of one element type.
template <typename T>
class Array {
 public:
  Array(Context& context, size_t count) : context_(&context), count_(count), memory_(context, count * sizeof(T)) {}
  Array(Context& context, std::span<const T> values) : Array(context, values.size()) { write(values); }

  T* data() const noexcept { return memory_.as<T>(); }
  size_t size() const noexcept { return count_; }
  void write(std::span<const T> values) const { context_->upload(values.data(), data(), values.size_bytes()); }
  void read(std::span<T> out) const { context_->download(data(), out.data(), out.size_bytes()); }
  void clear() const { context_->clear(data(), count_ * sizeof(T)); }

 private:
  Context* context_;
  size_t count_;
  ScratchMemory memory_;
};

struct CudaAlgebraMatrix final : AlgebraMatrix {
  CudaAlgebraMatrix(Context& context, std::span<const float> given, size_t rows, size_t columns, bool lies_across)
      : AlgebraMatrix(rows, columns), values(context, given), across(lies_across) {}
  const Array<float> values;
  const bool across;  // values are [columns][rows]
};

struct CudaRoundingFactors final : RoundingFactors {
  CudaRoundingFactors(Context& context, const codec::FeedbackFactors& factors)
      : columns(factors.columns),
        moments(context, factors.moments),
        feedback(context, factors.feedback),
        variances(context, factors.variances),
        group_inverse(context, factors.group_inverse),
        group_feedback(context, factors.group_feedback),
        group_variances(context, factors.group_variances) {}
  RoundingFactorsView view() const noexcept {
    return {moments.data(), feedback.data(), variances.data(), group_inverse.data(), group_feedback.data(), group_variances.data()};
  }
  const size_t columns;
  const Array<float> moments, feedback, variances, group_inverse, group_feedback, group_variances;
};

class CudaMomentSums final : public MomentSums {
 public:
  CudaMomentSums(Context& context, const Cublas& cublas, size_t rows, size_t columns)
      : MomentSums(rows, columns), context_(context), cublas_(cublas), sums_(context, rows * columns) {
    sums_.clear();
  }

  void add(std::span<const float> x, std::span<const float> y, std::span<const float> weights) override {
    const Array<float> right(context_, y);
    add(x, right.data(), weights);
  }
  void add_symmetric(std::span<const float> x, std::span<const float> weights) override {
    const Array<float> right(context_, x);
    add(x, right.data(), weights);
    is_symmetric_ = true;
  }

  std::span<const double> sums() override {
    if (host_.empty()) {
      // Rounding makes the halves differ in the last bits.
      if (is_symmetric_) check(launch_mirror(sums_.data(), signed_size(rows()), context_.stream()), "mirror sums");
      host_.resize(rows() * columns());
      sums_.read(host_);
    }
    return host_;
  }

 private:
  void add(std::span<const float> x, const float* y, std::span<const float> weights) {
    const int64_t tokens = signed_size(weights.size()), height = signed_size(rows()), width = signed_size(columns());
    const Array<float> left(context_, x), token_weights(context_, weights);
    if (!product_) product_.emplace(context_, rows() * columns());
    const Array<float> weighed(context_, x.size());
    check(launch_weigh(left.data(), token_weights.data(), tokens, height, weighed.data(), context_.stream()), "weigh tokens");
    cublas_.multiply(height, width, tokens, weighed.data(), height, /*left_across=*/true, y, width, false, product_->data(), width,
                     /*adds=*/false);
    check(launch_add_to_sums(product_->data(), height * width, sums_.data(), context_.stream()), "add sums");
    host_.clear();
  }

  Context& context_;
  const Cublas& cublas_;
  Array<double> sums_;
  std::optional<Array<float>> product_;  // of one call
  std::vector<double> host_;
  bool is_symmetric_ = false;
};

// The Cholesky factor of a small symmetric matrix, column by column, in its lower half. False where there is none.
bool factor_block(std::vector<double>& block, int64_t size) {
  for (int64_t c = 0; c < size; ++c) {
    double* const column = block.data() + c * size;
    for (int64_t k = 0; k < c; ++k) {
      const double* const earlier = block.data() + k * size;
      for (int64_t r = c; r < size; ++r) column[r] -= earlier[r] * earlier[c];
    }
    if (!(column[c] > 0.0) || !std::isfinite(column[c])) return false;
    const double inverse = 1.0 / std::sqrt(column[c]);
    for (int64_t r = c; r < size; ++r) column[r] *= inverse;
  }
  return true;
}

class CudaAlgebra final : public Algebra {
 public:
  explicit CudaAlgebra(int index) : context_(index), cublas_(context_.stream()) {}

  std::unique_ptr<AlgebraMatrix> keep(std::vector<float> values, size_t rows, size_t columns) override {
    return std::make_unique<CudaAlgebraMatrix>(context_, values, rows, columns, /*lies_across=*/false);
  }
  std::unique_ptr<AlgebraMatrix> keep_across(const std::vector<float>& values, size_t rows, size_t columns) override {
    return std::make_unique<CudaAlgebraMatrix>(context_, values, rows, columns, /*lies_across=*/true);
  }

  void multiply(std::span<const float> left, const AlgebraMatrix& matrix, std::vector<float>& out) override {
    context_.use();
    const auto& right = static_cast<const CudaAlgebraMatrix&>(matrix);
    const size_t rows = left.size() / right.rows();
    out.resize(rows * right.columns());
    const Array<float> from(context_, left), to(context_, out.size());
    cublas_.multiply(signed_size(rows), signed_size(right.columns()), signed_size(right.rows()), from.data(),
                     signed_size(right.rows()), false, right.values.data(),
                     signed_size(right.across ? right.rows() : right.columns()), right.across, to.data(),
                     signed_size(right.columns()), /*adds=*/false);
    to.read(out);
  }

  std::unique_ptr<MomentSums> make_sums(size_t rows, size_t columns) override {
    return std::make_unique<CudaMomentSums>(context_, cublas_, rows, columns);
  }

  // With J for the reversal of rows and columns and J·H·J = L·Lᵀ, U is J·L⁻¹·J. All elements in reverse order are J·H·J.
  bool invert_factor(std::span<double> matrix, size_t count) override {
    context_.use();
    const int64_t size = signed_size(count);
    const Stream stream = context_.stream();
    const Array<double> factor(context_, std::span<const double>(matrix)), inverse(context_, matrix.size());
    check(launch_reverse(factor.data(), size * size, stream), "reverse moments");
    for (int64_t first = 0; first < size; first += kCholeskyColumns) {
      const int64_t width = std::min(kCholeskyColumns, size - first);
      if (!factor_diagonal(factor.data() + first * size + first, size, width)) return false;
      cublas_.cholesky_step(factor.data(), size, first, width);
    }
    check(launch_identity(inverse.data(), size, stream), "make an identity");
    cublas_.invert_lower(factor.data(), size, inverse.data());
    check(launch_reverse(inverse.data(), size * size, stream), "reverse factors");
    // The columns of cuBLAS are our rows.
    check(launch_across(inverse.data(), size, factor.data(), stream), "lay factors across");
    factor.read(matrix);
    return true;
  }

  std::unique_ptr<RoundingFactors> keep(const codec::FeedbackFactors& factors) override {
    return std::make_unique<CudaRoundingFactors>(context_, factors);
  }

  void round_rows(const RoundingFactors& kept, const codec::Codebook& codebook, int depth, std::span<const float> targets,
                  codec::RoundedRows& out) override {
    context_.use();
    const auto& factors = static_cast<const CudaRoundingFactors&>(kept);
    const size_t columns = factors.columns, groups = columns / codec::kGroupSize, rows = targets.size() / columns;
    out.codes.resize(rows * columns);
    out.scale_codes.resize(rows * groups);
    out.error = 0;
    RoundingCodebook scales{};
    std::ranges::copy(codebook, scales.scales);
    scales.largest_code = static_cast<float>(codec::largest_code(depth));
    const size_t together = std::min<size_t>(rows, kRowsTogether);
    const Array<float> wanted(context_, together * columns), work(context_, together * columns),
        gradient(context_, together * columns), decoded(context_, together * columns),
        changes(context_, together * kRoundedColumns);
    const Array<int8_t> codes(context_, together * columns);
    const Array<uint8_t> scale_codes(context_, together * groups);
    const Array<double> errors(context_, together);
    std::vector<double> error_of(together);
    for (size_t first = 0; first < rows; first += together) {
      const size_t count = std::min(together, rows - first);
      const RoundingRows some{signed_size(count), signed_size(columns), wanted.data(),      work.data(),    gradient.data(),
                              decoded.data(),     codes.data(),         scale_codes.data(), changes.data(), errors.data()};
      const auto part = targets.subspan(first * columns, count * columns);
      wanted.write(part);
      work.write(part);
      round(some, factors.view(), scales);
      codes.read(std::span(out.codes).subspan(first * columns, count * columns));
      scale_codes.read(std::span(out.scale_codes).subspan(first * groups, count * groups));
      errors.read(std::span(error_of).first(count));
      for (size_t i = 0; i < count; ++i) out.error += error_of[i];
    }
  }

 private:
  // The diagonal block of a step, on the host. `stride`: of the whole matrix's columns.
  bool factor_diagonal(double* block, int64_t stride, int64_t width) {
    std::vector<double> host(static_cast<size_t>(width * width));
    const auto bytes = static_cast<size_t>(width) * sizeof(double), pitch = static_cast<size_t>(stride) * sizeof(double);
    check(cudaMemcpy2DAsync(host.data(), bytes, block, pitch, bytes, static_cast<size_t>(width), cudaMemcpyDeviceToHost,
                            context_.stream()),
          "copy from the device");
    context_.wait();
    if (!factor_block(host, width)) return false;
    check(cudaMemcpy2DAsync(block, pitch, host.data(), bytes, bytes, static_cast<size_t>(width), cudaMemcpyHostToDevice,
                            context_.stream()),
          "copy to the device");
    context_.wait();
    return true;
  }

  // As codec::round_rows() does it, a block of columns at a time: the other columns learn of a block's changes by one product.
  void round(const RoundingRows& rows, const RoundingFactorsView& factors, const RoundingCodebook& codebook) const {
    const Stream stream = context_.stream();
    const int64_t columns = rows.columns;
    const auto width_at = [&](int64_t first) { return std::min<int64_t>(kRoundedColumns, columns - first); };
    for (int64_t first = 0; first < columns; first += kRoundedColumns) {
      const int64_t width = width_at(first), end = first + width;
      check(launch_round_block(rows, factors, codebook, first, stream), "round weights");
      if (end < columns) {
        cublas_.multiply(rows.rows, columns - end, width, rows.changes, kRoundedColumns, false,
                         factors.feedback + first * columns + end, columns, false, rows.work + end, columns, /*adds=*/true);
      }
    }
    check(launch_lacking(rows, stream), "compare roundings");
    cublas_.multiply(rows.rows, columns, columns, rows.work, columns, false, factors.moments, columns, false, rows.gradient,
                     columns,
                     /*adds=*/false);
    for (int sweep = 0; sweep < codec::kDescentSweeps; ++sweep) {
      for (int64_t first = 0; first < columns; first += kRoundedColumns) {
        check(launch_improve_block(rows, factors, codebook, first, stream), "improve roundings");
        cublas_.multiply(rows.rows, columns, width_at(first), rows.changes, kRoundedColumns, false,
                         factors.moments + first * columns, columns, false, rows.gradient, columns, /*adds=*/true);
      }
    }
    check(launch_finish_rows(rows, stream), "finish roundings");
  }

  Context context_;
  const Cublas cublas_;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Algebra> make_cuda_algebra(int index) {
  require_cuda_device(index);
  return std::make_unique<cuda::CudaAlgebra>(index);
}

std::string cuda_algebra_problem() { return cuda::Cublas::problem(); }

}  // namespace tritllm
