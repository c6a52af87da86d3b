// Owns the options of a quantising run as the command line takes them, for the model card's command that makes the same bytes
// again. Does not own the card (model_card.h).
#pragma once

#include <string>

#include "codec/config.h"
#include "tasks/quantize_model.h"

namespace tritllm {

// " --depth …": what makes a difference for this configuration, without model, base model, configurations and output. A calibration
// text is named without its folder.
std::string command_options(const QuantizeOptions& options, codec::Config config);

}  // namespace tritllm
