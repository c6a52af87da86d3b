#include "model/model.h"

#include <array>
#include <utility>

namespace tritllm {

Model::Model(ModelFiles&& files, ModelConfig config, const ModelLimits& limits, Backend& backend)
    : config_(std::move(config)),
      limits_(settled_limits(limits, files, config_, backend)),
      backend_(&backend),
      owner_(files.owner),
      context_(config_, limits_.positions, limits_.batch_tokens, backend) {
  WeightLoader loader(files, config_, backend);
  embedding_ = loader.matrix(DecoderPart::kEmbedding);
  if (config_.tied_head) loader.ignore(DecoderPart::kHead);
  else head_ = loader.matrix(DecoderPart::kHead);
  final_norm_ = loader.gain(DecoderPart::kFinalNorm);
  for (uint32_t index = 0; index < config_.layer_count; ++index) layers_.push_back(Layer::load(loader, index));
  loader.refuse_leftovers();
  hidden_ = backend.allocate_rows(limits_.batch_tokens, config_.hidden);
  scored_ = backend.allocate_rows(limits_.logit_rows, config_.hidden);
  scores_ = backend.allocate_rows(limits_.logit_rows, config_.vocabulary);
}

uint64_t Model::weight_bytes_per_token() const noexcept {
  uint64_t bytes = (head_ ? *head_ : *embedding_).bytes();
  for (const Layer& layer : layers_) {
    for (const Linear* const linear : layer.linears()) bytes += linear->weights->bytes();
  }
  return bytes;
}

uint64_t Model::weight_bytes() const noexcept { return weight_bytes_per_token() + (head_ ? embedding_->bytes() : 0); }

uint32_t Model::pages_per_sequence() const noexcept {
  return (limits_.positions + backend_->page_positions() - 1) / backend_->page_positions();
}

std::unique_ptr<KeyValueCache> Model::make_cache(uint32_t pages, CacheType type) const {
  return backend_->make_cache(cache_shape(config_, pages, type));
}

uint64_t Model::cache_bytes(uint32_t pages, CacheType type) const {
  return backend_->cache_bytes(cache_shape(config_, pages, type));
}

std::unique_ptr<Step> Model::make_step(uint32_t sequences) const {
  return backend_->make_step({.tokens = limits_.batch_tokens, .sequences = sequences, .pages_per_sequence = pages_per_sequence()});
}

void Model::forward(const Step& step, KeyValueCache& cache, ForwardObserver* observer) {
  const Rows hidden = first_rows(hidden_, step.tokens());
  const auto operations = [&] {
    backend_->embed(*embedding_, step, config_.embedding_scale, hidden);
    for (const Layer& layer : layers_) layer.forward(context_, step, hidden, cache, layer.index(), observer);
  };
  if (observer != nullptr) operations();
  else backend_->run({this, &step, &cache, step.tokens(), 0, 0}, operations);
}

bool Model::forward_unless(const std::atomic<bool>& interrupt, const Step& step, KeyValueCache& cache) {
  const Rows hidden = first_rows(hidden_, step.tokens());
  backend_->embed(*embedding_, step, config_.embedding_scale, hidden);
  for (const Layer& layer : layers_) {
    if (interrupt) return false;
    layer.forward(context_, step, hidden, cache, layer.index());
  }
  return true;
}

Rows Model::logits(const Step& step, size_t first, size_t count) {
  const Rows scored = first_rows(scored_, count), scores = first_rows(scores_, count);
  const StepKey key{this, &step, nullptr, 0, static_cast<uint32_t>(first), static_cast<uint32_t>(count)};
  backend_->run(key, [&] {
    const Norm norm{final_norm_.get(), config_.norm_epsilon};
    backend_->gather(first_rows(hidden_, step.tokens()), step, first, scored);
    backend_->multiply(scored, &norm, std::array{Projection{head_ ? head_.get() : embedding_.get(), nullptr, scores}});
    if (config_.logit_softcap > 0.0f) backend_->soft_cap(scores, config_.logit_softcap);
  });
  return scores;
}

Rows Model::state(const Step& step, size_t row) {
  if (!state_) state_ = backend_->allocate_rows(1, config_.hidden);
  const Rows scored = first_rows(scored_, 1), state = first_rows(state_, 1);
  backend_->gather(first_rows(hidden_, step.tokens()), step, row, scored);
  backend_->write(std::vector<float>(config_.hidden), state);
  backend_->add_normed(scored, {final_norm_.get(), config_.norm_epsilon}, state);
  return state;
}

}  // namespace tritllm
