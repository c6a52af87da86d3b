// Owns the choice of a depth for each product of a model, so that the model diverges least from its source at a given number of
// bits. Does not own the rounding (calibrator.h).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "calibration/calibration_device.h"
#include "calibration/streams.h"
#include "calibration/token_sensitivity.h"
#include "codec/geometry.h"

namespace tritllm {

// The linears of a stage of a layer, which have one depth together, so that a device may multiply them as one.
struct DepthItem {
  std::vector<std::string> tensors;
  uint64_t weights = 0;
  std::array<double, codec::kMaxDepth>
      losses{};  // by depth − 1: nats of KL divergence a token that this rounding is expected to cost
};

// Rounds every matrix at every depth for the inputs of the source. The loss is ½·E[Σ g²·(ΔW·x)²], with g the gradient of −log
// p(label) by an output: half the error's square under the Fisher information, taken as diagonal in the outputs. `is_ternary` says
// which tensors take part.
std::vector<DepthItem> depth_losses(const ModelFiles& files, const TokenSequences& sequences, const TokenWeights& weights,
                                    double damping, const std::function<bool(const std::string&)>& is_ternary,
                                    const std::function<void()>& between_parts, const CalibrationDevice& device);

// Stored bits of a weight at a depth.
constexpr double stored_bits(int depth) noexcept { return 1.6 * depth + 0.3; }

// A depth for each item: the least sum of losses with at most `bits` stored bits a weight on average, up to one item's step. Throws
// an Error of kUsage where `bits` is less than what depth 1 takes.
std::vector<int> choose_depths(std::span<const DepthItem> items, double bits);

}  // namespace tritllm
