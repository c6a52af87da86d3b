#include "model/model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "io/mapped_file.h"
#include "model/families.h"

namespace tritllm {

namespace {

// Rows of scores computed together: enough to share the head's weights, few enough for a vocabulary of 256,000.
constexpr size_t kLogitRows = 32;

bool is_buffer(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

std::string shape_text(std::span<const uint64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace

// Hands out the tensors of a model's files by name, each once.
class Model::Loader {
 public:
  Loader(ModelFiles& files, const ModelConfig& config, Backend& backend) : files_(files), config_(config), backend_(backend) {}

  std::unique_ptr<DeviceMatrix> matrix(const std::string& name, uint64_t rows, uint64_t columns) {
    const WeightSource source = take(name);
    uint64_t found[2];
    if (const auto* const tensor = std::get_if<SourceTensor>(&source)) {
      if (tensor->shape.size() != 2 || !is_weight_type(tensor->type)) refuse_shape(name, {rows, columns}, tensor->shape);
      found[0] = tensor->rows(), found[1] = tensor->columns();
    } else {
      found[0] = std::get<TernaryMatrix>(source).shape.rows, found[1] = std::get<TernaryMatrix>(source).shape.columns;
    }
    if (found[0] != rows || found[1] != columns) refuse_shape(name, {rows, columns}, found);
    auto uploaded = backend_.upload_matrix(source);
    if (const auto* const ternary = std::get_if<TernaryMatrix>(&source)) give_back(*ternary);
    return uploaded;
  }

  DeviceVector vector(const std::string& name, uint64_t width, float offset = 0.0f) {
    const WeightSource source = take(name);
    const auto* const tensor = std::get_if<SourceTensor>(&source);
    if (tensor == nullptr) throw Error(ErrorCode::kBadInput, weight_place(files_, name), "is ternary; expected a vector of floats");
    if (tensor->shape.size() != 1 || tensor->shape[0] != width || !is_weight_type(tensor->type)) {
      refuse_shape(name, {width}, tensor->shape);
    }
    std::vector<float> values(width);
    read_float32(*tensor, 0, values);
    for (float& value : values) value += offset;
    return backend_.upload_vector(values);
  }

  DeviceVector gain(const std::string& name, uint64_t width) {
    return vector(name, width, config_.family->gains_are_offsets ? 1.0f : 0.0f);
  }
  std::unique_ptr<DeviceVector> gain_if(bool wanted, const std::string& name, uint64_t width) {
    return wanted ? std::make_unique<DeviceVector>(gain(name, width)) : nullptr;
  }

  Matrix linear(const std::string& name, uint64_t rows, uint64_t columns, bool with_bias) {
    Matrix result{matrix(name + ".weight", rows, columns), nullptr};
    if (with_bias) result.bias = std::make_unique<DeviceVector>(vector(name + ".bias", rows));
    return result;
  }

  void ignore(const std::string& name) { files_.weights.erase(name); }

  void refuse_leftovers() const {
    for (const auto& [name, source] : files_.weights) {
      if (is_buffer(name)) continue;
      throw Error(ErrorCode::kBadInput, weight_place(files_, name),
                  fmt::format("{} has no place for this tensor", config_.family->architecture),
                  "the model would compute something else without it; check config.json");
    }
  }

 private:
  WeightSource take(const std::string& name) {
    const auto found = files_.weights.find(name);
    if (found == files_.weights.end()) {
      throw Error(ErrorCode::kNotFound, weight_place(files_, name), "is missing, but config.json asks for it");
    }
    WeightSource source = std::move(found->second);
    files_.weights.erase(found);
    return source;
  }

  // The device has it in a form of its own: a model is never in memory twice.
  void give_back(const TernaryMatrix& matrix) const {
    if (!files_.mapped) return;
    release_pages(std::as_bytes(matrix.trits));
    release_pages(std::as_bytes(matrix.scales));
  }

  [[noreturn]] void refuse_shape(const std::string& name, std::initializer_list<uint64_t> expected,
                                 std::span<const uint64_t> found) const {
    throw Error(ErrorCode::kBadInput, weight_place(files_, name),
                fmt::format("expected floats of shape {} by config.json, found {}", shape_text(expected), shape_text(found)));
  }

  ModelFiles& files_;
  const ModelConfig& config_;
  Backend& backend_;
};

Model::Model(ModelFiles files, const ModelLimits& limits, Backend& backend)
    : config_(read_model_config(files.config, files.config_place)), limits_(limits), backend_(&backend), owner_(files.owner) {
  const ModelConfig& c = config_;
  Loader loader(files, config_, backend);
  embedding_ = loader.matrix("model.embed_tokens.weight", c.vocabulary, c.hidden);
  if (c.tied_head) loader.ignore("lm_head.weight");
  else head_ = loader.matrix("lm_head.weight", c.vocabulary, c.hidden);
  final_norm_ = loader.gain("model.norm.weight", c.hidden);
  const bool sandwich = c.family->norms_after_blocks, head_norms = c.family->query_key_norm;
  for (uint32_t index = 0; index < c.layer_count; ++index) {
    const std::string at = fmt::format("model.layers.{}.", index), attention = at + "self_attn.", mlp = at + "mlp.";
    // Gemma 3 has the norm after attention under the name that others use for the one before the feed-forward block.
    const std::string before_feed_forward = sandwich ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight";
    layers_.push_back({.attention_norm = loader.gain(at + "input_layernorm.weight", c.hidden),
                       .feed_forward_norm = loader.gain(at + before_feed_forward, c.hidden),
                       .query_norm = loader.gain_if(head_norms, attention + "q_norm.weight", c.head_width),
                       .key_norm = loader.gain_if(head_norms, attention + "k_norm.weight", c.head_width),
                       .after_attention_norm = loader.gain_if(sandwich, at + "post_attention_layernorm.weight", c.hidden),
                       .after_feed_forward_norm = loader.gain_if(sandwich, at + "post_feedforward_layernorm.weight", c.hidden),
                       .query = loader.linear(attention + "q_proj", c.query_width(), c.hidden, c.query_key_value_biases),
                       .key = loader.linear(attention + "k_proj", c.key_value_width(), c.hidden, c.query_key_value_biases),
                       .value = loader.linear(attention + "v_proj", c.key_value_width(), c.hidden, c.query_key_value_biases),
                       .output = loader.linear(attention + "o_proj", c.hidden, c.query_width(), c.output_bias),
                       .gate = loader.linear(mlp + "gate_proj", c.feed_forward, c.hidden, c.feed_forward_biases),
                       .up = loader.linear(mlp + "up_proj", c.feed_forward, c.hidden, c.feed_forward_biases),
                       .down = loader.linear(mlp + "down_proj", c.hidden, c.feed_forward, c.feed_forward_biases)});
  }
  loader.refuse_leftovers();
  for (const RotaryFrequencies& frequencies : c.rotaries) {
    rotary_tables_.push_back(backend.make_rotary_table(frequencies, limits.positions));
  }
  allocate_work_space();
}

void Model::allocate_work_space() {
  const ModelConfig& c = config_;
  const auto rows = [&](uint32_t width) { return backend_->allocate_rows(limits_.batch_tokens, width); };
  hidden_ = rows(c.hidden);
  normed_ = rows(c.hidden);
  queries_ = rows(c.query_width());
  keys_ = rows(c.key_value_width());
  values_ = rows(c.key_value_width());
  attended_ = rows(c.query_width());
  projected_ = rows(c.hidden);
  gate_ = rows(c.feed_forward);
  up_ = rows(c.feed_forward);
  chosen_ = backend_->allocate_rows(kLogitRows, c.hidden);
  scores_ = backend_->allocate_rows(kLogitRows, c.vocabulary);
}

uint64_t Model::weight_bytes_per_token() const noexcept {
  uint64_t bytes = (head_ ? *head_ : *embedding_).bytes();
  for (const Layer& layer : layers_) {
    for (const Matrix* const matrix :
         {&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down}) {
      bytes += matrix->weights->bytes();
    }
  }
  return bytes;
}

std::unique_ptr<KeyValueCache> Model::make_cache(uint32_t slots, CacheType type) const {
  return backend_->make_cache({.layers = config_.layer_count,
                               .key_value_heads = config_.key_value_heads,
                               .head_width = config_.head_width,
                               .slots = slots,
                               .positions = limits_.positions,
                               .type = type});
}

void Model::forward(std::span<const uint32_t> tokens, std::span<const TokenPlace> places, KeyValueCache& cache,
                    const LayerObserver& observer) {
  rows_in_use_ = tokens.size();
  const Rows hidden = hidden_.first(rows_in_use_);
  backend_->embed(*embedding_, tokens, config_.embedding_scale, hidden);
  for (uint32_t index = 0; index < config_.layer_count; ++index) {
    attention(layers_[index], index, hidden, places, cache);
    feed_forward(layers_[index], hidden);
    if (!observer) continue;
    std::vector<float> states(hidden.count * hidden.width);
    backend_->read(hidden, states);
    observer(index, states);
  }
}

void Model::attention(const Layer& layer, uint32_t index, Rows hidden, std::span<const TokenPlace> places, KeyValueCache& cache) {
  const LayerConfig& settings = config_.layers[index];
  const RotaryTable& rotary = *rotary_tables_[settings.rotary_index];
  const Rows normed = normed_.first(hidden.count), projected = projected_.first(hidden.count),
             attended = attended_.first(hidden.count);
  const Rows queries = queries_.first(hidden.count), keys = keys_.first(hidden.count), values = values_.first(hidden.count);
  backend_->rms_norm(hidden, layer.attention_norm, config_.norm_epsilon, normed);
  const Projection inputs[] = {layer.query.into(queries), layer.key.into(keys), layer.value.into(values)};
  backend_->multiply(normed, inputs);
  if (layer.query_norm) backend_->rms_norm(queries, *layer.query_norm, config_.norm_epsilon, queries);
  if (layer.key_norm) backend_->rms_norm(keys, *layer.key_norm, config_.norm_epsilon, keys);
  backend_->rotate(queries, config_.heads, rotary, places);
  backend_->rotate(keys, config_.key_value_heads, rotary, places);
  backend_->store(cache, index, keys, values, places);
  backend_->attend(queries, cache,
                   {.layer = index,
                    .heads = config_.heads,
                    .window = settings.window,
                    .scale = config_.attention_scale,
                    .softcap = config_.attention_softcap},
                   places, attended);
  const Projection output[] = {layer.output.into(projected)};
  backend_->multiply(attended, output);
  if (layer.after_attention_norm) backend_->rms_norm(projected, *layer.after_attention_norm, config_.norm_epsilon, projected);
  backend_->add(projected, hidden);
}

void Model::feed_forward(const Layer& layer, Rows hidden) {
  const Rows normed = normed_.first(hidden.count), projected = projected_.first(hidden.count);
  const Rows gate = gate_.first(hidden.count), up = up_.first(hidden.count);
  backend_->rms_norm(hidden, layer.feed_forward_norm, config_.norm_epsilon, normed);
  const Projection inputs[] = {layer.gate.into(gate), layer.up.into(up)};
  backend_->multiply(normed, inputs);
  backend_->gate(config_.activation, gate, up, gate);
  const Projection output[] = {layer.down.into(projected)};
  backend_->multiply(gate, output);
  if (layer.after_feed_forward_norm) backend_->rms_norm(projected, *layer.after_feed_forward_norm, config_.norm_epsilon, projected);
  backend_->add(projected, hidden);
}

void Model::logits(std::span<const uint32_t> rows, std::span<float> out) {
  const size_t vocabulary = config_.vocabulary;
  for (size_t first = 0; first < rows.size(); first += kLogitRows) {
    const auto block = rows.subspan(first, std::min(kLogitRows, rows.size() - first));
    const Rows chosen = chosen_.first(block.size()), scores = scores_.first(block.size());
    backend_->gather(hidden_.first(rows_in_use_), block, chosen);
    backend_->rms_norm(chosen, final_norm_, config_.norm_epsilon, chosen);
    const Projection head[] = {{head_ ? head_.get() : embedding_.get(), nullptr, scores}};
    backend_->multiply(chosen, head);
    backend_->read(scores, out.subspan(first * vocabulary, block.size() * vocabulary));
  }
  if (const float cap = config_.logit_softcap; cap > 0.0f) {
    for (float& score : out.first(rows.size() * vocabulary)) score = cap * std::tanh(score / cap);
  }
}

}  // namespace tritllm
