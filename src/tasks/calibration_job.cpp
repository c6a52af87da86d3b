#include "tasks/calibration_job.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/half.h"
#include "io/mapped_file.h"
#include "kernels/kernel_table.h"
#include "tasks/matrix_job.h"

namespace tritllm {

namespace {

// As the FP16 folder has them, so that a run goes on from either folder with the same numbers.
std::vector<float> rounded_to_half(std::vector<float> weights, ThreadPool& pool) {
  constexpr size_t kTogether = size_t{1} << 16;
  pool.parallel_for((weights.size() + kTogether - 1) / kTogether, [&](size_t part, unsigned) {
    const size_t end = std::min(weights.size(), (part + 1) * kTogether);
    for (size_t i = part * kTogether; i < end; ++i) {
      if (std::fabs(weights[i]) <= kLargestHalf) weights[i] = float_from_half(half_from_float(weights[i]));
    }
  });
  return weights;
}

}  // namespace

CalibrationSink::CalibrationSink(const ModelSource& model, ConfigRun& run, RunCost& cost, ThreadPool& pool,
                                 std::function<void(uint64_t)> on_stored)
    : model_(model), run_(run), cost_(cost), pool_(pool), on_stored_(std::move(on_stored)) {
  for (size_t i = 0; i < model.tensors.size(); ++i) positions_.emplace(model.tensors[i].name, i);
}

int CalibrationSink::depth(const std::string& tensor) const {
  const TensorPlan& plan = run_.plan(positions_.at(tensor));
  return plan.fate == Fate::kTernary ? plan.depth : 0;
}

std::optional<std::vector<float>> CalibrationSink::finished(const std::string& tensor) {
  const uint64_t position = positions_.at(tensor);
  if (!run_.has(position)) return std::nullopt;
  return rounded_to_half(run_.stored_matrix(position), pool_);
}

std::vector<float> CalibrationSink::store(const std::string& name, const CalibratedMatrix& matrix) {
  const uint64_t position = positions_.at(name);
  const SourceTensor& tensor = model_.tensors[position];
  const codec::ChosenCodes chosen{matrix.codebook, matrix.codes, matrix.scale_codes};
  const MatrixTarget target{{run_.config().recipe, matrix.depth}, run_.sinks(), nullptr, &chosen};
  const std::string checksum = checksum_and_release(tensor.bytes);
  const MatrixResult result =
      quantize_matrix(tensor, {&target, 1}, *kernels::active_table().groups, pool_, [](uint64_t) {}).front();
  cost_.quantised_weights += result.stats.weights;
  run_.record(position, checksum, &result.stats, result.plain);
  on_stored_(position);
  return rounded_to_half(matrix.decoded(pool_), pool_);
}

}  // namespace tritllm
