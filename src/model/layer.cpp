#include "model/layer.h"

#include <array>

#include "model/families.h"

namespace tritllm {

LayerContext::LayerContext(const ModelConfig& config, uint32_t positions, uint32_t batch_tokens, Backend& backend)
    : config_(&config), backend_(&backend) {
  for (const RotaryFrequencies& frequencies : config.rotaries) {
    rotary_tables_.push_back(backend.make_rotary_table(frequencies, positions));
  }
  const auto rows = [&](uint32_t width) { return backend.allocate_rows(batch_tokens, width); };
  queries = rows(config.query_width());
  keys = rows(config.key_value_width());
  values = rows(config.key_value_width());
  attended = rows(config.query_width());
  gate = rows(config.feed_forward);
  up = rows(config.feed_forward);
  if (config.family->norms_after_blocks) projected = rows(config.hidden);
}

Layer Layer::load(WeightLoader& weights, uint32_t index) {
  using Part = DecoderPart;
  Layer layer;
  layer.index_ = index;
  layer.attention_norm_ = weights.gain(Part::kAttentionNorm, index);
  layer.query_norm_ = weights.gain(Part::kQueryNorm, index);
  layer.key_norm_ = weights.gain(Part::kKeyNorm, index);
  layer.after_attention_norm_ = weights.gain(Part::kAfterAttentionNorm, index);
  layer.attention_inner_norm_ = weights.gain(Part::kAttentionInnerNorm, index);
  layer.feed_forward_inner_norm_ = weights.gain(Part::kFeedForwardInnerNorm, index);
  layer.feed_forward_norm_ = weights.gain(Part::kFeedForwardNorm, index);
  layer.after_feed_forward_norm_ = weights.gain(Part::kAfterFeedForwardNorm, index);
  layer.query_ = weights.linear(Part::kQuery, Part::kQueryBias, index);
  layer.key_ = weights.linear(Part::kKey, Part::kKeyBias, index);
  layer.value_ = weights.linear(Part::kValue, Part::kValueBias, index);
  layer.output_ = weights.linear(Part::kOutput, Part::kOutputBias, index);
  layer.gate_ = weights.linear(Part::kGate, Part::kGateBias, index);
  layer.up_ = weights.linear(Part::kUp, Part::kUpBias, index);
  layer.down_ = weights.linear(Part::kDown, Part::kDownBias, index);
  return layer;
}

std::vector<const Linear*> Layer::linears() const { return {&query_, &key_, &value_, &output_, &gate_, &up_, &down_}; }

void Layer::forward(LayerContext& context, const Step& step, Rows hidden, KeyValueCache& cache, uint32_t cache_layer,
                    ForwardObserver* observer) const {
  for (const LayerStage stage : kLayerStages) run(stage, context, step, hidden, cache, cache_layer, observer);
  if (observer != nullptr) observer->after_layer(index_, hidden);
}

void Layer::run(LayerStage stage, LayerContext& context, const Step& step, Rows hidden, KeyValueCache& cache, uint32_t cache_layer,
                ForwardObserver* observer) const {
  switch (stage) {
    case LayerStage::kQueryKeyValue: return attend(context, step, hidden, cache, cache_layer, observer);
    case LayerStage::kOutput: {
      const Rows attended = first_rows(context.attended, hidden.count);
      return add_block(context, output_, attended, attention_inner_norm_.get(), after_attention_norm_.get(), hidden, observer);
    }
    case LayerStage::kGateUp: return gate(context, hidden, observer);
    case LayerStage::kDown: {
      const Rows gated = first_rows(context.gate, hidden.count);
      return add_block(context, down_, gated, feed_forward_inner_norm_.get(), after_feed_forward_norm_.get(), hidden, observer);
    }
  }
}

std::vector<Linear*> Layer::linears(LayerStage stage) {
  switch (stage) {
    case LayerStage::kQueryKeyValue: return {&query_, &key_, &value_};
    case LayerStage::kOutput: return {&output_};
    case LayerStage::kGateUp: return {&gate_, &up_};
    case LayerStage::kDown: return {&down_};
  }
  return {};
}

std::optional<Norm> Layer::norm_before(LayerStage stage, const ModelConfig& config) const noexcept {
  const DeviceVector* gain = nullptr;
  switch (stage) {
    case LayerStage::kQueryKeyValue: gain = attention_norm_.get(); break;
    case LayerStage::kOutput: gain = attention_inner_norm_.get(); break;
    case LayerStage::kGateUp: gain = feed_forward_norm_.get(); break;
    case LayerStage::kDown: gain = feed_forward_inner_norm_.get(); break;
  }
  return gain == nullptr ? std::nullopt : std::optional(Norm{gain, config.norm_epsilon});
}

bool Layer::is_normed_after(LayerStage stage) const noexcept {
  if (stage == LayerStage::kOutput) return after_attention_norm_ != nullptr;
  if (stage == LayerStage::kDown) return after_feed_forward_norm_ != nullptr;
  return false;
}

void Layer::attend(LayerContext& context, const Step& step, Rows hidden, KeyValueCache& cache, uint32_t cache_layer,
                   ForwardObserver* observer) const {
  const ModelConfig& config = context.config();
  const LayerConfig& settings = config.layers[index_];
  Backend& backend = context.backend();
  const Rows queries = first_rows(context.queries, hidden.count), keys = first_rows(context.keys, hidden.count),
             values = first_rows(context.values, hidden.count), attended = first_rows(context.attended, hidden.count);
  const Norm norm{attention_norm_.get(), config.norm_epsilon};
  if (observer != nullptr) observer->before_linears(std::array{&query_, &key_, &value_}, hidden, &norm);
  backend.multiply(hidden, &norm, std::array{query_.into(queries), key_.into(keys), value_.into(values)});
  const Norm query_norm{query_norm_.get(), config.norm_epsilon}, key_norm{key_norm_.get(), config.norm_epsilon};
  backend.store_and_attend(queries, keys, values,
                           {.query_norm = query_norm_ ? &query_norm : nullptr,
                            .key_norm = key_norm_ ? &key_norm : nullptr,
                            .rotary = &context.rotary(settings)},
                           step, cache,
                           {.layer = cache_layer,
                            .heads = config.heads,
                            .window = settings.window,
                            .scale = config.attention_scale,
                            .softcap = config.attention_softcap},
                           attended);
}

void Layer::gate(LayerContext& context, Rows hidden, ForwardObserver* observer) const {
  const ModelConfig& config = context.config();
  Backend& backend = context.backend();
  const Rows gate = first_rows(context.gate, hidden.count), up = first_rows(context.up, hidden.count);
  const Norm norm{feed_forward_norm_.get(), config.norm_epsilon};
  if (observer != nullptr) observer->before_linears(std::array{&gate_, &up_}, hidden, &norm);
  backend.multiply_gated(hidden, &norm, gate_.into(gate), up_.into(up), config.activation);
}

void Layer::add_block(LayerContext& context, const Linear& linear, Rows x, const DeviceVector* norm_before,
                      const DeviceVector* norm_after, Rows hidden, ForwardObserver* observer) const {
  Backend& backend = context.backend();
  const Norm inner{norm_before, context.config().norm_epsilon};
  const Norm* const norm = norm_before == nullptr ? nullptr : &inner;
  if (observer != nullptr) observer->before_linears(std::array{&linear}, x, norm);
  if (norm_after == nullptr) return backend.multiply(x, norm, std::array{linear.into(hidden, /*adds=*/true)});
  const Rows projected = first_rows(context.projected, hidden.count);
  backend.multiply(x, norm, std::array{linear.into(projected)});
  backend.add_normed(projected, {norm_after, context.config().norm_epsilon}, hidden);
}

}  // namespace tritllm
