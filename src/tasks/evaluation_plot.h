// Owns the picture of an evaluation against a reference. Does not own the figures (evaluate.h).
#pragma once

#include <string>

#include "tasks/evaluate.h"

namespace tritllm {

// An SVG document of two charts with logarithmic scales: the relative error of the hidden states after each layer, and the KL
// divergence of the scored tokens by rank. Needs evaluation.divergence.
std::string evaluation_plot(const Evaluation& evaluation, const std::string& title);

}  // namespace tritllm
