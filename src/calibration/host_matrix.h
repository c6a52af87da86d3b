// Owns weights in float32 on the host, where calibration works on them outside of a forward pass. Does not own what it does with
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/model_files.h"

namespace tritllm {

// A matrix in float32 on the host, [rows][columns].
struct HostMatrix {
  size_t rows = 0, columns = 0;
  std::vector<float> values;
};

// A tensor of the model in float32; a vector is one row.
HostMatrix host_matrix(const ModelFiles& files, const std::string& tensor);
// A norm's gains; empty where the model has no such norm.
std::vector<float> host_gain(const ModelFiles& files, const ModelConfig& config, DecoderPart part, uint32_t layer = 0);

}  // namespace tritllm
