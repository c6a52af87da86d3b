// Owns the activations of gated feed-forward blocks, as kernels apply them.
#pragma once

#include "backend/cuda/launch.h"
#include "backend/cuda/ptx.cuh"

namespace tritllm::cuda {

TRIT_DEVICE float activation(GateKind kind, float x) {
  if (kind == GateKind::kSilu) return x / (1.0f + expf(-x));
  // sqrt(2/π) and the cubic's coefficient: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
  if (kind == GateKind::kGeluTanh) return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
  if (kind == GateKind::kReluSquared) return x < 0.0f ? 0.0f : x * x;
  return 0.5f * x * (1.0f + erff(x * 0.7071067812f));
}

}  // namespace tritllm::cuda
