// Owns a backend that says it is asynchronous and does everything as another one does: so the engine launches steps ahead, as on a
// CUDA device, where there is none.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "backend/backend.h"

namespace tritllm {

class AsynchronousBackend final : public Backend {
 public:
  explicit AsynchronousBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  std::string description() const override { return inner_->description(); }
  bool asynchronous() const noexcept override { return true; }
  std::unique_ptr<DeviceMatrix> upload_matrix(const WeightSource& source, const MatrixSlice& slice) override {
    return inner_->upload_matrix(source, slice);
  }
  std::unique_ptr<DeviceVector> upload_vector(std::span<const float> values) override { return inner_->upload_vector(values); }
  std::unique_ptr<RowBuffer> allocate_rows(size_t capacity, size_t width) override {
    return inner_->allocate_rows(capacity, width);
  }
  std::unique_ptr<RotaryTable> make_rotary_table(const RotaryFrequencies& frequencies, uint32_t positions) override {
    return inner_->make_rotary_table(frequencies, positions);
  }
  uint32_t page_positions() const noexcept override { return inner_->page_positions(); }
  uint32_t usual_batch_tokens() const noexcept override { return inner_->usual_batch_tokens(); }
  uint64_t cache_bytes(const CacheShape& shape) const override { return inner_->cache_bytes(shape); }
  std::unique_ptr<KeyValueCache> make_cache(const CacheShape& shape) override { return inner_->make_cache(shape); }
  void copy_page(KeyValueCache& cache, PageId from, PageId to) override { inner_->copy_page(cache, from, to); }
  std::unique_ptr<Step> make_step(const StepLimits& limits) override { return inner_->make_step(limits); }
  void begin(Step& step, const StepInputs& inputs) override {
    steps_ahead += inputs.chosen != nullptr ? 1 : 0;
    inner_->begin(step, inputs);
  }
  void run(const StepKey& key, const std::function<void()>& operations) override { inner_->run(key, operations); }
  void embed(const DeviceMatrix& table, const Step& step, float scale, Rows out) override {
    inner_->embed(table, step, scale, out);
  }
  void multiply(Rows x, const Norm* norm, std::span<const Projection> projections) override {
    inner_->multiply(x, norm, projections);
  }
  void store_heads(Rows queries, Rows keys, Rows values, const HeadRules& rules, const Step& step, uint32_t layer,
                   KeyValueCache& cache) override {
    inner_->store_heads(queries, keys, values, rules, step, layer, cache);
  }
  void attend(Rows queries, const KeyValueCache& cache, const AttentionSettings& settings, const Step& step, Rows out) override {
    inner_->attend(queries, cache, settings, step, out);
  }
  void gate(Activation activation, Rows gate, Rows up, Rows out) override { inner_->gate(activation, gate, up, out); }
  void add_normed(Rows x, const Norm& norm, Rows to) override { inner_->add_normed(x, norm, to); }
  void gather(Rows x, const Step& step, size_t first, Rows out) override { inner_->gather(x, step, first, out); }
  void soft_cap(Rows x, float cap) override { inner_->soft_cap(x, cap); }
  std::unique_ptr<ChosenTokens> make_chosen_tokens(uint32_t capacity) override { return inner_->make_chosen_tokens(capacity); }
  void choose(Rows logits, std::span<const DrawSettings> draws, ChosenTokens& chosen) override {
    inner_->choose(logits, draws, chosen);
  }
  void tokens(const ChosenTokens& chosen, std::span<uint32_t> out) override { inner_->tokens(chosen, out); }
  std::unique_ptr<Moments> make_moments(size_t columns, MomentKind kind) override { return inner_->make_moments(columns, kind); }
  void add_moments(Rows x, const Norm* norm, Moments& sums) override { inner_->add_moments(x, norm, sums); }
  void read(const Moments& sums, std::span<double> out) override { inner_->read(sums, out); }
  void read(Rows x, std::span<float> out) override { inner_->read(x, out); }
  void write(std::span<const float> values, Rows out) override { inner_->write(values, out); }

  int steps_ahead = 0;  // that began with tokens which the host had not seen

 private:
  std::unique_ptr<Backend> inner_;
};

}  // namespace tritllm
