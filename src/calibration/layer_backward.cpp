#include "calibration/layer_backward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <utility>

namespace tritllm {

namespace {

std::vector<float> transposed(const float* values, size_t stride, size_t rows, size_t columns) {
  std::vector<float> out(rows * columns);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) out[c * rows + r] = values[r * stride + c];
  }
  return out;
}

// The activation's value and slope.
std::pair<float, float> activation(Activation kind, float x) {
  if (kind == Activation::kSilu) {
    const float s = 1.0f / (1.0f + std::exp(-x));
    return {x * s, s * (1.0f + x * (1.0f - s))};
  }
  if (kind == Activation::kGeluErf) {
    const float cumulative = 0.5f * (1.0f + std::erf(x * 0.7071067812f));
    return {x * cumulative, cumulative + x * 0.3989422804f * std::exp(-0.5f * x * x)};
  }
  if (kind == Activation::kReluSquared) return {x < 0.0f ? 0.0f : x * x, x < 0.0f ? 0.0f : 2.0f * x};
  constexpr float kRoot = 0.7978845608f, kCubic = 0.044715f;  // as in kernels/scalar/tensor_kernels.cpp
  const float t = std::tanh(kRoot * (x + kCubic * x * x * x));
  return {0.5f * x * (1.0f + t), 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * kRoot * (1.0f + 3.0f * kCubic * x * x)};
}

void add(std::span<float> sums, std::span<const float> values) {
  for (size_t i = 0; i < sums.size(); ++i) sums[i] += values[i];
}

// norm(x) for rows of the gain's width.
std::vector<float> normed(std::span<const float> x, std::span<const float> gain, float epsilon, ThreadPool& pool) {
  const size_t width = gain.size();
  std::vector<float> out(x.size());
  pool.parallel_for(x.size() / width, [&](size_t row, unsigned) {
    const size_t at = row * width;
    double squares = 0;
    for (size_t i = 0; i < width; ++i) squares += double{x[at + i]} * double{x[at + i]};
    const auto inverse = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(width) + double{epsilon}));
    for (size_t i = 0; i < width; ++i) out[at + i] = x[at + i] * inverse * gain[i];
  });
  return out;
}

}  // namespace

// With s = 1 / sqrt(mean of x² + epsilon): dx = s·(gain·dy) − x·s³·mean(x·gain·dy).
void add_norm_gradient(std::span<const float> x, std::span<const float> gain, float epsilon, std::span<const float> gradient,
                       std::span<float> out, ThreadPool& pool) {
  const size_t width = gain.size();
  pool.parallel_for(x.size() / width, [&](size_t row, unsigned) {
    const size_t at = row * width;
    double squares = 0, along = 0;
    for (size_t i = 0; i < width; ++i) {
      squares += double{x[at + i]} * double{x[at + i]};
      along += double{x[at + i]} * double{gain[i]} * double{gradient[at + i]};
    }
    const double s = 1.0 / std::sqrt(squares / static_cast<double>(width) + double{epsilon});
    const double factor = s * s * s * along / static_cast<double>(width);
    for (size_t i = 0; i < width; ++i)
      out[at + i] += static_cast<float>(s * double{gain[i]} * double{gradient[at + i]} - factor * double{x[at + i]});
  });
}

LayerBackward::LayerBackward(const ModelFiles& files, const ModelConfig& config, size_t tokens, const CalibrationDevice& device)
    : files_(files), config_(config), device_(device), kernels_(*device.kernels.groups) {
  files_.on_progress = nullptr;
  files_.side_files.clear();
  for (const size_t width : {config.hidden, config.query_width(), config.key_value_width(), config.feed_forward}) {
    for (auto* const buffers : {&inputs_, &outputs_}) {
      if (!buffers->contains(width)) buffers->emplace(width, device.backend.allocate_rows(tokens, width));
    }
  }
}

void LayerBackward::load(uint32_t index) {
  const auto gain = [&](DecoderPart part) { return host_gain(files_, config_, part, index); };
  attention_gain_ = gain(DecoderPart::kAttentionNorm);
  feed_forward_gain_ = gain(DecoderPart::kFeedForwardNorm);
  query_gain_ = gain(DecoderPart::kQueryNorm);
  key_gain_ = gain(DecoderPart::kKeyNorm);
  after_attention_gain_ = gain(DecoderPart::kAfterAttentionNorm);
  after_feed_forward_gain_ = gain(DecoderPart::kAfterFeedForwardNorm);
  ModelFiles files = files_;  // the loader takes tensors out
  WeightLoader loader(files, config_, device_.backend);
  layer_.emplace(Layer::load(loader, index));
  linears_ = layer_->linears();
  for (size_t i = 0; i < kLayerLinears; ++i) {
    matrices_[i].reset();
    HostMatrix matrix = host_matrix(files_, linears_[i]->name + ".weight");
    matrices_[i] = device_.algebra.keep(std::move(matrix.values), matrix.rows, matrix.columns);
  }
}

std::vector<float> LayerBackward::forward(size_t index, std::span<const float> x, const std::optional<Norm>& norm) {
  std::vector<float> out;
  forward(std::array{index}, x, norm, std::array{&out});
  return out;
}

void LayerBackward::forward(std::span<const size_t> linears, std::span<const float> x, const std::optional<Norm>& norm,
                            std::span<std::vector<float>* const> out) {
  const size_t width = matrices_[linears[0]]->columns(), tokens = x.size() / width;
  const Rows in = first_rows(inputs_.at(width), tokens);
  device_.backend.write(x, in);
  for (size_t i = 0; i < linears.size(); ++i) {
    const Rows rows = first_rows(outputs_.at(matrices_[linears[i]]->rows()), tokens);
    device_.backend.multiply(in, norm ? &*norm : nullptr, std::array{linears_[linears[i]]->into(rows)});
    out[i]->resize(tokens * rows.width());
    device_.backend.read(rows, *out[i]);
  }
}

std::vector<float> LayerBackward::backward(size_t linear, std::span<const float> gradient) const {
  return device_.algebra.product(gradient, *matrices_[linear]);
}

void LayerBackward::rotate(std::span<float> heads, size_t tokens, bool back) const {
  const RotaryFrequencies& rotary = config_.rotaries[config_.layers[layer_->index()].rotary_index];
  const size_t pairs = rotary.inverse_wavelengths.size(), row = heads.size() / tokens;
  device_.pool.parallel_for(tokens, [&](size_t t, unsigned) {
    for (size_t i = 0; i < pairs; ++i) {
      const double angle = static_cast<double>(t) * double{rotary.inverse_wavelengths[i]};
      const float cosine = rotary.amplitude * static_cast<float>(std::cos(angle));
      const float sine = (back ? -1.0f : 1.0f) * rotary.amplitude * static_cast<float>(std::sin(angle));
      for (size_t at = t * row; at < (t + 1) * row; at += config_.head_width) {
        const float a = heads[at + i], b = heads[at + i + pairs];
        heads[at + i] = a * cosine - b * sine;
        heads[at + i + pairs] = b * cosine + a * sine;
      }
    }
  });
}

LayerBackward::Heads LayerBackward::heads_of(std::vector<float> raw, size_t tokens, std::span<const float> gain) const {
  Heads heads{std::move(raw), {}};
  heads.rotated = gain.empty() ? heads.raw : normed(heads.raw, gain, config_.norm_epsilon, device_.pool);
  rotate(heads.rotated, tokens, /*back=*/false);
  return heads;
}

std::vector<float> LayerBackward::heads_backward(const Heads& heads, size_t tokens, std::span<const float> gain,
                                                 std::vector<float> gradient) const {
  rotate(gradient, tokens, /*back=*/true);
  if (gain.empty()) return gradient;
  std::vector<float> out(gradient.size());
  add_norm_gradient(heads.raw, gain, config_.norm_epsilon, gradient, out, device_.pool);
  return out;
}

LayerBackward::Attention LayerBackward::attention_of(const Heads& queries, const Heads& keys, size_t tokens, size_t head) const {
  const size_t width = config_.head_width, window = config_.layers[layer_->index()].window;
  const std::vector<float> across =
      transposed(keys.rotated.data() + head_of_key(head) * width, config_.key_value_width(), tokens, width);
  Attention attention{std::vector<float>(tokens * tokens), {}};
  std::vector<float>& shares = attention.shares;
  kernels_.add_product(queries.rotated.data() + head * width, config_.query_width(), across.data(), tokens, width, shares.data(),
                       tokens, tokens, tokens);
  const float cap = config_.attention_softcap;
  if (cap > 0.0f) attention.slopes.resize(tokens * tokens);
  for (size_t t = 0; t < tokens; ++t) {
    float* const row = shares.data() + t * tokens;
    const size_t first = window != 0 && t + 1 > window ? t + 1 - window : 0;
    float largest = -INFINITY;
    for (size_t s = first; s <= t; ++s) {
      row[s] *= config_.attention_scale;
      if (cap > 0.0f) {
        const float tanh = std::tanh(row[s] / cap);
        row[s] = cap * tanh;
        attention.slopes[t * tokens + s] = 1.0f - tanh * tanh;
      }
      largest = std::max(largest, row[s]);
    }
    double total = 0;
    for (size_t s = first; s <= t; ++s) total += row[s] = std::exp(row[s] - largest);
    for (size_t s = 0; s < tokens; ++s) row[s] = s >= first && s <= t ? static_cast<float>(row[s] / total) : 0.0f;
  }
  return attention;
}

std::vector<float> LayerBackward::attended(const Heads& queries, const Heads& keys, std::span<const float> values,
                                           size_t tokens) const {
  const size_t width = config_.head_width;
  std::vector<float> out(tokens * config_.query_width());
  device_.pool.parallel_for(config_.heads, [&](size_t head, unsigned) {
    const Attention attention = attention_of(queries, keys, tokens, head);
    kernels_.add_product(attention.shares.data(), tokens, values.data() + head_of_key(head) * width, config_.key_value_width(),
                         tokens, out.data() + head * width, config_.query_width(), tokens, width);
  });
  return out;
}

// With shares P = softmax(S) and A = P·V: dV = Pᵀ·dA, dP = dA·Vᵀ, dS = P·(dP − Σ P·dP).
LayerBackward::AttentionGradients LayerBackward::attention_backward(const Heads& queries, const Heads& keys,
                                                                    std::span<const float> values, size_t tokens,
                                                                    std::span<const float> gradient) const {
  const size_t width = config_.head_width, query_width = config_.query_width(), key_width = config_.key_value_width();
  AttentionGradients out{std::vector<float>(tokens * query_width), std::vector<float>(tokens * key_width),
                         std::vector<float>(tokens * key_width)};
  // Heads that share keys are summed afterwards, in their order.
  std::vector<float> key_gradients(config_.heads * tokens * width), value_gradients(key_gradients.size());
  device_.pool.parallel_for(config_.heads, [&](size_t head, unsigned) {
    const size_t shared = head_of_key(head) * width;
    Attention attention = attention_of(queries, keys, tokens, head);
    const std::vector<float> across = transposed(values.data() + shared, key_width, tokens, width);
    std::vector<float> scores(tokens * tokens);
    kernels_.add_product(gradient.data() + head * width, query_width, across.data(), tokens, width, scores.data(), tokens, tokens,
                         tokens);
    for (size_t t = 0; t < tokens; ++t) {
      float *const row = scores.data() + t * tokens, *const shares = attention.shares.data() + t * tokens;
      double along = 0;
      for (size_t s = 0; s <= t; ++s) along += double{shares[s]} * double{row[s]};
      for (size_t s = 0; s < tokens; ++s) {
        row[s] = config_.attention_scale * shares[s] * (row[s] - static_cast<float>(along));
        if (!attention.slopes.empty()) row[s] *= attention.slopes[t * tokens + s];
      }
    }
    kernels_.add_product(scores.data(), tokens, keys.rotated.data() + shared, key_width, tokens, out.queries.data() + head * width,
                         query_width, tokens, width);
    const std::vector<float> scores_across = transposed(scores.data(), tokens, tokens, tokens);
    kernels_.add_product(scores_across.data(), tokens, queries.rotated.data() + head * width, query_width, tokens,
                         key_gradients.data() + head * tokens * width, width, tokens, width);
    const std::vector<float> shares_across = transposed(attention.shares.data(), tokens, tokens, tokens);
    kernels_.add_product(shares_across.data(), tokens, gradient.data() + head * width, query_width, tokens,
                         value_gradients.data() + head * tokens * width, width, tokens, width);
  });
  for (size_t head = 0; head < config_.heads; ++head) {
    for (size_t t = 0; t < tokens; ++t) {
      const size_t from = (head * tokens + t) * width, to = t * key_width + head_of_key(head) * width;
      add(std::span(out.keys).subspan(to, width), std::span(key_gradients).subspan(from, width));
      add(std::span(out.values).subspan(to, width), std::span(value_gradients).subspan(from, width));
    }
  }
  return out;
}

std::vector<float> LayerBackward::before_sum(std::span<const float> output, std::span<const float> gain,
                                             std::span<const float> gradient) const {
  if (gain.empty()) return {gradient.begin(), gradient.end()};
  std::vector<float> out(gradient.size());
  add_norm_gradient(output, gain, config_.norm_epsilon, gradient, out, device_.pool);
  return out;
}

void LayerBackward::through_feed_forward(std::span<const float> middle, std::span<float> gradient, OutputGradients& outputs) {
  const std::optional<Norm> norm = layer_->norm_before(LayerStage::kGateUp, config_);
  forward(std::array<size_t, 2>{kGate, kUp}, middle, norm, std::array{&gate_, &up_});
  for (std::vector<float>* const values : {&activated_, &slopes_, &gated_, &outputs[kGate], &outputs[kUp]})
    values->resize(gate_.size());
  const auto for_elements = [&](auto&& body) {
    const size_t width = config_.feed_forward;
    device_.pool.parallel_for(gate_.size() / width, [&](size_t row, unsigned) {
      for (size_t i = row * width; i < (row + 1) * width; ++i) body(i);
    });
  };
  for_elements([&](size_t i) {
    std::tie(activated_[i], slopes_[i]) = activation(config_.activation, gate_[i]);
    gated_[i] = activated_[i] * up_[i];
  });
  const std::vector<float> output = after_feed_forward_gain_.empty() ? std::vector<float>() : forward(kDown, gated_);
  outputs[kDown] = before_sum(output, after_feed_forward_gain_, gradient);
  device_.algebra.multiply(outputs[kDown], *matrices_[kDown], gated_gradient_);
  for_elements([&](size_t i) {
    outputs[kGate][i] = gated_gradient_[i] * up_[i] * slopes_[i];
    outputs[kUp][i] = gated_gradient_[i] * activated_[i];
  });
  std::vector<float> inputs = backward(kGate, outputs[kGate]);
  add(inputs, backward(kUp, outputs[kUp]));
  add_norm_gradient(middle, feed_forward_gain_, config_.norm_epsilon, inputs, gradient, device_.pool);
}

void LayerBackward::run(std::span<const float> input, std::span<float> gradient, OutputGradients& outputs) {
  const size_t tokens = input.size() / config_.hidden;
  const std::optional<Norm> norm = layer_->norm_before(LayerStage::kQueryKeyValue, config_);
  std::vector<float> raw_queries, raw_keys, values;
  forward(std::array<size_t, 3>{kQuery, kKey, kValue}, input, norm, std::array{&raw_queries, &raw_keys, &values});
  const Heads queries = heads_of(std::move(raw_queries), tokens, query_gain_),
              keys = heads_of(std::move(raw_keys), tokens, key_gain_);
  const std::vector<float> output = forward(kOutput, attended(queries, keys, values, tokens));
  std::vector<float> middle(input.begin(), input.end());
  add(middle, after_attention_gain_.empty() ? output : normed(output, after_attention_gain_, config_.norm_epsilon, device_.pool));
  through_feed_forward(middle, gradient, outputs);

  outputs[kOutput] = before_sum(output, after_attention_gain_, gradient);
  AttentionGradients back = attention_backward(queries, keys, values, tokens, backward(kOutput, outputs[kOutput]));
  outputs[kQuery] = heads_backward(queries, tokens, query_gain_, std::move(back.queries));
  outputs[kKey] = heads_backward(keys, tokens, key_gain_, std::move(back.keys));
  outputs[kValue] = std::move(back.values);
  std::vector<float> inputs = backward(kQuery, outputs[kQuery]);
  add(inputs, backward(kKey, outputs[kKey]));
  add(inputs, backward(kValue, outputs[kValue]));
  add_norm_gradient(input, attention_gain_, config_.norm_epsilon, inputs, gradient, device_.pool);
}

}  // namespace tritllm
