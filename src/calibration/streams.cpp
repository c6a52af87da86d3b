#include "calibration/streams.h"

#include <algorithm>
#include <numeric>

#include "model/limits.h"

namespace tritllm {

namespace {

uint32_t longest(const TokenSequences& sequences) {
  size_t most = 1;
  for (const auto& tokens : sequences) most = std::max(most, tokens.size());
  return static_cast<uint32_t>(most);
}

SourceTensor tensor_of(const Linear& linear, const std::vector<float>& weights) {
  SourceTensor tensor;
  tensor.name = linear.name + ".weight";
  tensor.shape = {linear.weights->rows(), linear.weights->columns()};
  tensor.type = ElementType::kF32;
  tensor.bytes = std::as_bytes(std::span(weights));
  tensor.place = tensor.name;
  return tensor;
}

}  // namespace

Stream::Stream(const ModelFiles& files, const ModelConfig& config, const TokenSequences& sequences, Backend& backend)
    : files_(files),
      config_(config),
      sequences_(sequences),
      backend_(backend),
      context_(config, longest(sequences), longest(sequences), backend),
      first_token_(1) {
  const uint32_t tokens = longest(sequences);
  const uint32_t pages = (tokens + backend.page_positions() - 1) / backend.page_positions();
  CacheShape shape = cache_shape(config, pages, CacheType::kFloat32);
  shape.layers = 1;
  cache_ = backend.make_cache(shape);
  step_ = backend.make_step({.tokens = tokens, .sequences = 1, .pages_per_sequence = pages});
  rows_ = backend.allocate_rows(tokens, config.hidden);
  normed_ = backend.allocate_rows(tokens, config.hidden);
  pages_.resize(pages);
  std::iota(pages_.begin(), pages_.end(), PageId{0});
  files_.on_progress = nullptr;
  files_.side_files.clear();
  for (const auto& sequence : sequences) first_token_.push_back(first_token_.back() + sequence.size());
  hidden_.resize(first_token_.back() * config.hidden);
  between_.resize(first_token_.back() * std::max(config.query_width(), config.feed_forward));
}

void Stream::embed() {
  WeightLoader loader(files_, config_, backend_);
  const auto embedding = loader.matrix(DecoderPart::kEmbedding);
  for (size_t i = 0; i < sequences_.size(); ++i) {
    begin(i);
    const Rows rows = first_rows(rows_, sequences_[i].size());
    backend_.embed(*embedding, *step_, config_.embedding_scale, rows);
    backend_.read(rows, hidden_of(i));
  }
}

void Stream::load_layer(uint32_t index) {
  WeightLoader loader(files_, config_, backend_);
  layer_.reset();
  replaced_.clear();
  layer_.emplace(Layer::load(loader, index));
}

size_t Stream::input_width(LayerStage stage) const noexcept {
  if (stage == LayerStage::kOutput) return config_.query_width();
  return stage == LayerStage::kDown ? config_.feed_forward : config_.hidden;
}

std::span<const float> Stream::hidden(size_t sequence) const noexcept {
  return std::span(hidden_).subspan(first_token_[sequence] * config_.hidden, sequences_[sequence].size() * config_.hidden);
}

std::span<float> Stream::hidden_of(size_t sequence) noexcept {
  return std::span(hidden_).subspan(first_token_[sequence] * config_.hidden, sequences_[sequence].size() * config_.hidden);
}

std::span<float> Stream::between_of(size_t sequence, size_t width) noexcept {
  return std::span(between_).subspan(first_token_[sequence] * width, sequences_[sequence].size() * width);
}

void Stream::begin(size_t sequence) {
  const std::vector<uint32_t>& tokens = sequences_[sequence];
  std::vector<TokenPlace> places(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) places[i] = {0, static_cast<uint32_t>(i)};
  backend_.begin(*step_, {.tokens = tokens,
                          .places = places,
                          .pages = pages_,
                          .pages_per_sequence = static_cast<uint32_t>(pages_.size()),
                          .scored = {}});
}

Rows Stream::write_hidden(size_t sequence) {
  const Rows rows = first_rows(rows_, sequences_[sequence].size());
  backend_.write(hidden(sequence), rows);
  return rows;
}

void Stream::read_inputs(LayerStage stage, size_t sequence, std::vector<float>& out) {
  const size_t width = input_width(stage), count = sequences_[sequence].size();
  const std::optional<Norm> norm = layer_->norm_before(stage, config_);
  out.assign(count * width, 0.0f);
  if (!norm) {
    std::ranges::copy(between_of(sequence, width), out.begin());
    return;
  }
  const Rows normed = first_rows(normed_, count);
  backend_.write(out, normed);
  backend_.add_normed(write_hidden(sequence), *norm, normed);
  backend_.read(normed, out);
}

void Stream::replace(Linear& linear, std::vector<float> weights) {
  replaced_.push_back(std::make_unique<std::vector<float>>(std::move(weights)));
  linear.weights = backend_.upload_matrix(WeightSource(tensor_of(linear, *replaced_.back()), /*mapped=*/false));
}

void Stream::advance(LayerStage stage) {
  const bool reads = stage == LayerStage::kOutput || stage == LayerStage::kDown;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    begin(i);
    const Rows hidden = write_hidden(i);
    const bool is_attention = stage == LayerStage::kQueryKeyValue || stage == LayerStage::kOutput;
    const Rows between = first_rows(is_attention ? context_.attended : context_.gate, hidden.count);
    const std::span<float> kept = between_of(i, between.width());
    if (reads) backend_.write(kept, between);
    layer_->run(stage, context_, *step_, hidden, *cache_, 0);
    if (reads) backend_.read(hidden, hidden_of(i));
    else backend_.read(between, kept);
  }
}

}  // namespace tritllm
