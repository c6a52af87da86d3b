#include "calibration/host_matrix.h"

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

}  // namespace tritllm
