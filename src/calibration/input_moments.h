// Owns the sums over tokens that calibration needs of the inputs of one product. Does not own where inputs come from (streams.h)
// nor what follows from the sums (moment_factors.h).
#pragma once

#include <memory>

#include "backend/algebra.h"

namespace tritllm {

// x is the input in the source, x̂ the one in the model whose earlier matrices are quantised already, r and r̂ the hidden states that
// the product's output is added to.
struct InputMoments {
  std::unique_ptr<MomentSums> inputs;    // Σ w·x̂·x̂ᵀ
  std::unique_ptr<MomentSums> cross;     // Σ w·x·x̂ᵀ; null: the inputs are the source's
  std::unique_ptr<MomentSums> residual;  // Σ w·(r − r̂)·x̂ᵀ; null where the output is not added as it is
};

}  // namespace tritllm
