#include "calibration/token_sensitivity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <utility>

namespace tritllm {

namespace {

constexpr size_t kLogitRowsTogether = 128;

// The head: from hidden states after the last layer to the gradient there.
class Head {
 public:
  Head(const ModelFiles& files, const ModelConfig& config, const CalibrationDevice& device)
      : config_(config), device_(device), files_(files) {
    Backend& backend = device.backend;
    files_.on_progress = nullptr;
    const DecoderPart part = config.tied_head ? DecoderPart::kEmbedding : DecoderPart::kHead;
    HostMatrix matrix = host_matrix(files_, decoder_tensor(config.decoder_shape(), part).name);
    matrix_ = device.algebra.keep(std::move(matrix.values), matrix.rows, matrix.columns);
    gain_ = host_gain(files_, config, DecoderPart::kFinalNorm);
    WeightLoader loader(files_, config, backend);
    device_matrix_ = loader.matrix(part);
    device_gain_ = loader.gain(DecoderPart::kFinalNorm);
    rows_ = backend.allocate_rows(kLogitRowsTogether, config.hidden);
    scores_ = backend.allocate_rows(kLogitRowsTogether, config.vocabulary);
  }

  // hidden: [tokens][hidden]. labels: [tokens], or empty: drawn by the seed.
  std::vector<float> gradient(std::span<const float> hidden, std::span<const uint32_t> labels, uint64_t seed) {
    const size_t tokens = hidden.size() / config_.hidden;
    std::vector<float> out(hidden.size());
    std::vector<double> draws(tokens);
    std::mt19937_64 random(seed);
    for (double& draw : draws) draw = static_cast<double>(random() >> 11) * 0x1p-53;
    for (size_t first = 0; first < tokens; first += kLogitRowsTogether) {
      const size_t count = std::min(kLogitRowsTogether, tokens - first);
      const std::span<const float> here = hidden.subspan(first * config_.hidden, count * config_.hidden);
      read_logits(here, count);
      device_.pool.parallel_for(count, [&](size_t row, unsigned) {
        const std::span<float> scores = std::span(logits_).subspan(row * config_.vocabulary, config_.vocabulary);
        become_gradient(scores, draws[first + row], labels.empty() ? UINT32_MAX : labels[first + row]);
      });
      const std::vector<float> normed = device_.algebra.product(logits_, *matrix_);
      add_norm_gradient(here, gain_, config_.norm_epsilon, normed, std::span(out).subspan(first * config_.hidden, here.size()),
                        device_.pool);
    }
    return out;
  }

 private:
  void read_logits(std::span<const float> hidden, size_t count) {
    const Rows rows = first_rows(rows_, count), scores = first_rows(scores_, count);
    const Norm norm{device_gain_.get(), config_.norm_epsilon};
    device_.backend.write(hidden, rows);
    device_.backend.multiply(rows, &norm, std::array{Projection{device_matrix_.get(), nullptr, scores}});
    logits_.resize(count * config_.vocabulary);
    device_.backend.read(scores, logits_);
  }

  // Logits of one token become the gradient of −log p(label) by them: p − 1 at the label, times the slope of the soft cap.
  void become_gradient(std::span<float> logits, double draw, uint32_t label) const {
    const float cap = config_.logit_softcap;
    std::vector<float> slopes;
    if (cap > 0.0f) {
      slopes.resize(logits.size());
      for (size_t i = 0; i < logits.size(); ++i) {
        const float tanh = std::tanh(logits[i] / cap);
        logits[i] = cap * tanh;
        slopes[i] = 1.0f - tanh * tanh;
      }
    }
    const float largest = *std::ranges::max_element(logits);
    double total = 0;
    for (float& logit : logits) total += logit = std::exp(logit - largest);
    double left = draw * total;
    for (size_t i = 0; label == UINT32_MAX && i < logits.size(); ++i) {
      left -= logits[i];
      if (left < 0) label = static_cast<uint32_t>(i);
    }
    const auto inverse = static_cast<float>(1.0 / total);
    for (float& logit : logits) logit *= inverse;
    if (label < logits.size()) logits[label] -= 1.0f;
    for (size_t i = 0; i < slopes.size(); ++i) logits[i] *= slopes[i];
  }

  const ModelConfig& config_;
  const CalibrationDevice device_;
  ModelFiles files_;
  std::unique_ptr<AlgebraMatrix> matrix_;  // [vocabulary][hidden]
  std::vector<float> logits_;              // [kLogitRowsTogether][vocabulary]
  std::vector<float> gain_;
  std::unique_ptr<DeviceMatrix> device_matrix_;
  std::unique_ptr<DeviceVector> device_gain_;
  std::unique_ptr<RowBuffer> rows_, scores_;
};

size_t longest(const TokenSequences& sequences) {
  size_t most = 1;
  for (const auto& tokens : sequences) most = std::max(most, tokens.size());
  return most;
}

}  // namespace

void walk_backward(const ModelFiles& files, const ModelConfig& config, const TokenSequences& sequences,
                   const SensitivityOptions& options, const CalibrationDevice& device, const OnGradients& on_gradients) {
  Head head(files, config, device);
  LayerBackward layer(files, config, longest(sequences), device);
  const uint64_t bytes = uint64_t{longest(sequences)} * config.hidden * sizeof(float) * (config.layer_count + 1);
  const size_t together = std::max<uint64_t>(1, options.state_bytes / bytes);
  size_t first_token = 0;
  OutputGradients gradients;
  for (size_t first = 0; first < sequences.size(); first += together) {
    const size_t count = std::min(together, sequences.size() - first);
    const TokenSequences chunk(sequences.begin() + static_cast<std::ptrdiff_t>(first),
                               sequences.begin() + static_cast<std::ptrdiff_t>(first + count));
    // Hidden states before each layer: [layers + 1][sequences].
    std::vector<std::vector<std::vector<float>>> states(config.layer_count + 1);
    Stream stream(files, config, chunk, device.backend);
    stream.embed();
    for (uint32_t index = 0; index <= config.layer_count; ++index) {
      for (size_t i = 0; i < count; ++i) states[index].emplace_back(stream.hidden(i).begin(), stream.hidden(i).end());
      if (index == config.layer_count) break;
      options.between_parts();
      stream.load_layer(index);
      for (const LayerStage stage : kLayerStages) stream.advance(stage);
    }
    std::vector<std::vector<float>> at(count);
    for (size_t i = 0; i < count; ++i) {
      options.between_parts();
      const std::span<const uint32_t> labels = options.labels.empty() ? std::span<const uint32_t>() : options.labels[first + i];
      at[i] = head.gradient(states[config.layer_count][i], labels, options.seed + first + i);
    }
    for (uint32_t index = config.layer_count; index-- > 0;) {
      layer.load(index);
      size_t token = first_token;
      for (size_t i = 0; i < count; ++i) {
        options.between_parts();
        layer.run(states[index][i], at[i], gradients);
        on_gradients(index, token, gradients);
        token += chunk[i].size();
      }
      states[index + 1].clear();
    }
    for (const auto& tokens : chunk) first_token += tokens.size();
  }
}

TokenWeights token_weights(const ModelFiles& files, const ModelConfig& config, const TokenSequences& sequences,
                           const SensitivityOptions& options, const CalibrationDevice& device) {
  static constexpr size_t kStageOfLinear[kLayerLinears] = {0, 0, 0, 1, 2, 2, 3};
  size_t tokens = 0;
  for (const auto& sequence : sequences) tokens += sequence.size();
  std::vector<std::vector<float>> of_linear(config.layer_count * kLayerLinears, std::vector<float>(tokens));
  walk_backward(
      files, config, sequences, options, device, [&](uint32_t layer, size_t first_token, const OutputGradients& gradients) {
        const size_t count = gradients[kLayerLinears - 1].size() / config.hidden;
        for (size_t i = 0; i < kLayerLinears; ++i) {
          const size_t width = gradients[i].size() / count;
          device.pool.parallel_for(count, [&](size_t t, unsigned) {
            double squares = 0;
            for (size_t k = t * width; k < (t + 1) * width; ++k) squares += double{gradients[i][k]} * double{gradients[i][k]};
            of_linear[layer * kLayerLinears + i][first_token + t] = static_cast<float>(squares / static_cast<double>(width));
          });
        }
      });
  TokenWeights weights;
  weights.of_stage.assign(config.layer_count * std::size(kLayerStages), std::vector<float>(tokens));
  std::array<size_t, std::size(kLayerStages)> linears{};
  for (const size_t stage : kStageOfLinear) ++linears[stage];
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    for (size_t i = 0; i < kLayerLinears; ++i) {
      const std::vector<float>& own = of_linear[layer * kLayerLinears + i];
      double sum = 0;
      for (const float value : own) sum += value;
      const size_t stage = kStageOfLinear[i];
      weights.scales.push_back(tokens > 0 ? sum / static_cast<double>(tokens) : 0.0);
      const double share = sum > 0 ? static_cast<double>(tokens) / sum / static_cast<double>(linears[stage]) : 0.0;
      std::vector<float>& to = weights.of_stage[layer * std::size(kLayerStages) + stage];
      for (size_t t = 0; t < tokens; ++t) to[t] += static_cast<float>(share * own[t]);
    }
  }
  return weights;
}

uint64_t sensitivity_memory(const ModelConfig& config, uint64_t longest) noexcept {
  const uint64_t hidden = config.hidden, widest = std::max<uint64_t>({hidden, config.query_width(), config.feed_forward});
  const uint64_t head = (hidden + 3 * kLogitRowsTogether) * config.vocabulary * sizeof(float);
  const uint64_t layer =
      2 * (2 * hidden * (config.query_width() + config.key_value_width()) + 3 * hidden * config.feed_forward) * sizeof(float);
  const uint64_t sequence = longest * hidden * sizeof(float) * (config.layer_count + 1);
  const uint64_t work = longest * (16 * widest + 4 * longest) * sizeof(float);
  return head + layer + std::max(sequence, kLeastStateBytes) + work;
}

}  // namespace tritllm
