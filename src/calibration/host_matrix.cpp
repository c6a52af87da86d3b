#include "calibration/host_matrix.h"

#include <algorithm>

#include "model/families.h"

namespace tritllm {

HostMatrix host_matrix(const ModelFiles& files, const std::string& name) {
  const SourceTensor& tensor = *files.weights.at(name).dense();
  HostMatrix matrix{tensor.shape.size() == 1 ? 1 : tensor.rows(), tensor.columns(), std::vector<float>(tensor.elements())};
  read_float32(tensor, 0, matrix.values);
  return matrix;
}

std::vector<float> host_gain(const ModelFiles& files, const ModelConfig& config, DecoderPart part, uint32_t layer) {
  const DecoderShape shape = config.decoder_shape();
  if (!has_part(shape, part)) return {};
  std::vector<float> gain = host_matrix(files, decoder_tensor(shape, part, layer).name).values;
  if (config.family->gains_are_offsets) {
    for (float& value : gain) value += 1.0f;
  }
  return gain;
}

// Rows that a thread takes at a time: `right` is read once for all of them.
constexpr size_t kRowsOfTask = 64;

std::vector<float> product(std::span<const float> left, const HostMatrix& right, const codec::GroupKernels& kernels,
                           ThreadPool& pool) {
  const size_t rows = left.size() / right.rows;
  std::vector<float> out(rows * right.columns);
  pool.parallel_for((rows + kRowsOfTask - 1) / kRowsOfTask, [&](size_t task, unsigned) {
    const size_t first = task * kRowsOfTask, count = std::min(kRowsOfTask, rows - first);
    kernels.add_product(left.data() + first * right.rows, right.rows, right.values.data(), right.columns, right.rows,
                        out.data() + first * right.columns, right.columns, count, right.columns);
  });
  return out;
}

}  // namespace tritllm
