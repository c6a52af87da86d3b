#include "calibration/host_algebra.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <utility>

namespace tritllm {

namespace {

// Rows that a thread takes at a time: what they are multiplied with is read once for all of them.
constexpr size_t kRowsOfTask = 64;
// Columns of y that sums are made of together: they stay in the cache of one core.
constexpr size_t kPanelColumns = 32;
// Rows that are rounded together: their work space stays in the cache of one core.
constexpr size_t kRoundedRows = 32;
// Rows and columns of a part that is laid across.
constexpr size_t kSquare = 64;

size_t tasks_of(size_t count, size_t together) noexcept { return (count + together - 1) / together; }

struct HostProductMatrix final : AlgebraMatrix {
  HostProductMatrix(std::vector<float> given, size_t rows, size_t columns)
      : AlgebraMatrix(rows, columns), values(std::move(given)) {}
  const std::vector<float> values;
};

struct HostFactors final : RoundingFactors {
  explicit HostFactors(const codec::FeedbackFactors& given) : factors(given) {}
  const codec::FeedbackFactors& factors;
};

// [columns / 32][tokens][32]
std::vector<float> panels_of(std::span<const float> y, size_t tokens, size_t columns, ThreadPool& pool) {
  const size_t panels = tasks_of(columns, kPanelColumns);
  std::vector<float> packed(panels * tokens * kPanelColumns);
  pool.parallel_for(panels, [&](size_t panel, unsigned) {
    const size_t first = panel * kPanelColumns, count = std::min(kPanelColumns, columns - first);
    for (size_t t = 0; t < tokens; ++t)
      std::copy_n(y.data() + t * columns + first, count, packed.data() + (panel * tokens + t) * kPanelColumns);
  });
  return packed;
}

class HostSums final : public MomentSums {
 public:
  HostSums(size_t rows, size_t columns, const codec::GroupKernels& kernels, ThreadPool& pool)
      : MomentSums(rows, columns), kernels_(kernels), pool_(pool), sums_(rows * columns) {}

  void add(std::span<const float> x, std::span<const float> y, std::span<const float> weights) override {
    add(x, y, weights, /*all=*/true);
  }
  void add_symmetric(std::span<const float> x, std::span<const float> weights) override {
    add(x, x, weights, /*all=*/false);
    is_half_ = true;
  }

  std::span<const double> sums() override {
    if (std::exchange(is_half_, false)) {
      pool_.parallel_for(rows(), [&](size_t r, unsigned) {
        for (size_t c = 0; c < r; ++c) sums_[r * columns() + c] = sums_[c * columns() + r];
      });
    }
    return sums_;
  }

 private:
  // Not all: what lies below the diagonal may be missing.
  void add(std::span<const float> x, std::span<const float> y, std::span<const float> weights, bool all) {
    const size_t tokens = weights.size();
    const std::vector<float> panels = panels_of(y, tokens, columns(), pool_);
    pool_.parallel_for(tasks_of(rows(), kRowsOfTask), [&](size_t task, unsigned) {
      const size_t first = task * kRowsOfTask, count = std::min(kRowsOfTask, rows() - first);
      std::vector<float> across(count * tokens), block(count * kPanelColumns);
      for (size_t t = 0; t < tokens; ++t) {
        for (size_t r = 0; r < count; ++r) across[r * tokens + t] = weights[t] * x[t * rows() + first + r];
      }
      for (size_t column = all ? 0 : first / kPanelColumns * kPanelColumns; column < columns(); column += kPanelColumns) {
        const size_t width = std::min(kPanelColumns, columns() - column);
        std::ranges::fill(block, 0.0f);
        kernels_.add_product(across.data(), tokens, panels.data() + column * tokens, kPanelColumns, tokens, block.data(),
                             kPanelColumns, count, kPanelColumns);
        for (size_t r = 0; r < count; ++r) {
          double* const sums = sums_.data() + (first + r) * columns() + column;
          for (size_t c = 0; c < width; ++c) sums[c] += double{block[r * kPanelColumns + c]};
        }
      }
    });
  }

  const codec::GroupKernels& kernels_;
  ThreadPool& pool_;
  std::vector<double> sums_;
  bool is_half_ = false;
};

class HostAlgebra final : public Algebra {
 public:
  HostAlgebra(const codec::GroupKernels& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  std::unique_ptr<AlgebraMatrix> keep(std::vector<float> values, size_t rows, size_t columns) override {
    return std::make_unique<HostProductMatrix>(std::move(values), rows, columns);
  }

  std::unique_ptr<AlgebraMatrix> keep_across(const std::vector<float>& values, size_t rows, size_t columns) override {
    std::vector<float> across(values.size());
    pool_.parallel_for(tasks_of(rows, kSquare), [&](size_t task, unsigned) {
      const size_t end = std::min(rows, (task + 1) * kSquare);
      for (size_t first = 0; first < columns; first += kSquare) {
        for (size_t c = first; c < std::min(columns, first + kSquare); ++c) {
          for (size_t r = task * kSquare; r < end; ++r) across[r * columns + c] = values[c * rows + r];
        }
      }
    });
    return keep(std::move(across), rows, columns);
  }

  void multiply(std::span<const float> left, const AlgebraMatrix& matrix, std::vector<float>& out) override {
    const auto& right = static_cast<const HostProductMatrix&>(matrix);
    const size_t inner = right.rows(), columns = right.columns(), rows = left.size() / inner;
    out.resize(rows * columns);
    pool_.parallel_for(tasks_of(rows, kRowsOfTask), [&](size_t task, unsigned) {
      const size_t first = task * kRowsOfTask, count = std::min(kRowsOfTask, rows - first);
      std::fill_n(out.data() + first * columns, count * columns, 0.0f);
      kernels_.add_product(left.data() + first * inner, inner, right.values.data(), columns, inner, out.data() + first * columns,
                           columns, count, columns);
    });
  }

  std::unique_ptr<MomentSums> make_sums(size_t rows, size_t columns) override {
    return std::make_unique<HostSums>(rows, columns, kernels_, pool_);
  }

  bool invert_factor(std::span<double> matrix, size_t size) override { return tritllm::invert_factor(matrix, size); }

  std::unique_ptr<RoundingFactors> keep(const codec::FeedbackFactors& factors) override {
    return std::make_unique<HostFactors>(factors);
  }

  void round_rows(const RoundingFactors& kept, const codec::Codebook& codebook, int depth, std::span<const float> targets,
                  codec::RoundedRows& out) override {
    const codec::FeedbackFactors& factors = static_cast<const HostFactors&>(kept).factors;
    const size_t columns = factors.columns, groups = columns / codec::kGroupSize, rows = targets.size() / columns;
    out.codes.resize(rows * columns);
    out.scale_codes.resize(rows * groups);
    std::vector<double> errors(tasks_of(rows, kRoundedRows));
    pool_.parallel_for(errors.size(), [&](size_t task, unsigned) {
      const size_t first = task * kRoundedRows, count = std::min(kRoundedRows, rows - first);
      codec::RoundedRows rounded;
      codec::round_rows(factors, codebook, depth, targets.subspan(first * columns, count * columns), kernels_, rounded);
      errors[task] = rounded.error;
      std::ranges::copy(rounded.codes, out.codes.data() + first * columns);
      std::ranges::copy(rounded.scale_codes, out.scale_codes.data() + first * groups);
    });
    out.error = 0;
    for (const double error : errors) out.error += error;
  }

 private:
  const codec::GroupKernels& kernels_;
  ThreadPool& pool_;
};

}  // namespace

// With J for the reversal of rows and columns and J·H·J = L·Lᵀ, U is J·L⁻¹·J.
bool invert_factor(std::span<double> values, size_t size) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto count = static_cast<Eigen::Index>(size);
  Eigen::Map<Matrix> matrix(values.data(), count, count);
  const Matrix reversed = matrix.reverse();
  const Eigen::LLT<Matrix> cholesky(reversed);
  if (cholesky.info() != Eigen::Success) return false;
  Matrix inverse = Matrix::Identity(count, count);
  cholesky.matrixL().solveInPlace(inverse);
  matrix = inverse.reverse();
  return true;
}

std::unique_ptr<Algebra> make_host_algebra(const codec::GroupKernels& kernels, ThreadPool& pool) {
  return std::make_unique<HostAlgebra>(kernels, pool);
}

}  // namespace tritllm
