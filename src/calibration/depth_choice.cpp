#include "calibration/depth_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "backend/cpu/backend.h"
#include "calibration/calibrated_matrix.h"
#include "core/error.h"

namespace tritllm {

namespace {

// One more depth, or several at once, for an item.
struct Raise {
  size_t item;
  int depth;            // after the step
  uint64_t bits;        // that it takes, in tenths
  double gain_per_bit;  // falls from step to step of an item
};

uint64_t tenths_of_bits(const DepthItem& item, int from, int to) { return item.weights * 16 * static_cast<uint64_t>(to - from); }

// The raises along the lower convex hull of an item's losses: those that some price of a bit makes worth while.
void add_raises(std::span<const DepthItem> items, size_t index, std::vector<Raise>& raises) {
  const DepthItem& item = items[index];
  for (int depth = 1; depth < codec::kMaxDepth;) {
    Raise best{index, 0, 0, 0.0};
    for (int next = depth + 1; next <= codec::kMaxDepth; ++next) {
      const uint64_t bits = tenths_of_bits(item, depth, next);
      const double gain =
          (item.losses[static_cast<size_t>(depth - 1)] - item.losses[static_cast<size_t>(next - 1)]) / static_cast<double>(bits);
      if (gain > best.gain_per_bit) best = {index, next, bits, gain};
    }
    if (best.depth == 0) return;
    raises.push_back(best);
    depth = best.depth;
  }
}

}  // namespace

std::vector<DepthItem> depth_losses(const ModelFiles& files, const TokenSequences& sequences, const TokenWeights& weights,
                                    double damping, const std::function<bool(const std::string&)>& is_ternary,
                                    const std::function<void()>& between_parts, const CalibrationDevice& device) {
  const ModelConfig config = read_model_config(files.config, files.config_place);
  Stream stream(files, config, sequences, device.backend);
  stream.embed();
  std::vector<DepthItem> items;
  std::vector<float> inputs;
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    stream.load_layer(layer);
    size_t linear_index = layer * kLayerLinears;
    for (const LayerStage stage : kLayerStages) {
      const size_t width = stream.input_width(stage);
      const std::span<const float> token_weights = weights.at(layer, stage);
      InputMoments moments{device.algebra.make_sums(width, width), nullptr, nullptr};
      size_t first = 0;
      for (size_t i = 0; i < sequences.size(); first += sequences[i++].size()) {
        between_parts();
        stream.read_inputs(stage, i, inputs);
        moments.inputs->add_symmetric(inputs, token_weights.subspan(first, sequences[i].size()));
      }
      const MomentFactors factors(moments, {.damping = damping, .shift = 0.0}, device.algebra, device.pool);
      DepthItem item;
      for (const Linear* const linear : stream.linears(stage)) {
        const std::string name = linear->name + ".weight";
        const double scale = weights.scales[linear_index++];
        if (!is_ternary(name)) continue;
        const HostMatrix matrix = host_matrix(files, name);
        const codec::MatrixShape shape{.rows = matrix.rows, .columns = matrix.columns};
        item.tensors.push_back(name);
        item.weights += shape.weights();
        for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
          between_parts();
          const CalibratedMatrix rounded =
              calibrate_matrix(matrix.values, shape, depth, factors, false, *device.kernels.groups, device.pool);
          item.losses[static_cast<size_t>(depth - 1)] += 0.5 * scale * rounded.loss / static_cast<double>(first);
        }
      }
      if (!item.tensors.empty()) items.push_back(std::move(item));
      stream.advance(stage);
    }
  }
  return items;
}

std::vector<int> choose_depths(std::span<const DepthItem> items, double bits) {
  uint64_t weights = 0;
  std::vector<Raise> raises;
  for (size_t i = 0; i < items.size(); ++i) {
    weights += items[i].weights;
    add_raises(items, i, raises);
  }
  if (bits < stored_bits(1)) {
    throw Error(ErrorCode::kUsage, "options.bits", fmt::format("expected at least {}, found {}", stored_bits(1), bits),
                "depth 1 takes that much");
  }
  std::ranges::stable_sort(raises, [](const Raise& a, const Raise& b) { return a.gain_per_bit > b.gain_per_bit; });
  double left = (bits - stored_bits(1)) * 10.0 * static_cast<double>(weights);
  std::vector<int> depths(items.size(), 1);
  std::vector<char> closed(items.size());  // a step did not fit: no later one of the item either
  for (const Raise& raise : raises) {
    if (closed[raise.item] != 0) continue;
    if (static_cast<double>(raise.bits) > left) {
      closed[raise.item] = 1;
      continue;
    }
    left -= static_cast<double>(raise.bits);
    depths[raise.item] = raise.depth;
  }
  return depths;
}

}  // namespace tritllm
