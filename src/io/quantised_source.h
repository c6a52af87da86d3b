// Owns the recognition of models whose weights are quantised already. Those of eight bits with scales (FP8 E4M3, integers) and
// packed trits with a scale (BitNet) are read as products with their scales; all others are refused by the name of their method.
// Does not own the arithmetic (source_tensor.h) nor GGUF's block formats, which are types of their own.
#pragma once

#include <string_view>

#include "io/model_source.h"

namespace tritllm {

// In config.json of a model whose matrices multiply activations of eight bits a token, as it was trained: 8. Other programs ignore
// it.
inline constexpr std::string_view kActivationBitsField = "tritllm_activation_bits";

// Gives each eight-bit matrix of the model its scales, and removes every mark of quantisation from config, tensors and side files,
// so that the model is like an unquantised one. Adds a warning where it found a mark. Throws where the weights cannot be read.
void settle_quantisation(ModelSource& model);

}  // namespace tritllm
