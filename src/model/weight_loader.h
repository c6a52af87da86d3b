// Owns the way of weights from a model's files onto a device: each tensor by its name and shape, exactly once. Does not own what a
// tensor is for (layer.h, model.h).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "backend/backend.h"
#include "model/config.h"
#include "model/model_files.h"

namespace tritllm {

// A matrix of a model with the name that it has in the model's files.
struct Linear {
  std::string name;  // without ".weight"
  std::unique_ptr<DeviceMatrix> weights;
  std::unique_ptr<DeviceVector> bias;  // null: none

  Projection into(Rows out, bool adds = false) const noexcept { return {weights.get(), bias.get(), out, adds}; }
};

class WeightLoader {
 public:
  // All three outlive the loader. Tensors that are taken leave `files`.
  WeightLoader(ModelFiles& files, const ModelConfig& config, Backend& backend) noexcept;

  const ModelConfig& config() const noexcept { return config_; }

  // Each refuses a tensor that is missing or of another shape.
  std::unique_ptr<DeviceMatrix> matrix(const std::string& name, uint64_t rows, uint64_t columns);
  Linear linear(const std::string& name, uint64_t rows, uint64_t columns, bool with_bias);
  std::unique_ptr<DeviceVector> gain(const std::string& name, uint64_t width);
  std::unique_ptr<DeviceVector> gain_if(bool wanted, const std::string& name, uint64_t width);

  void ignore(const std::string& name) { files_.weights.erase(name); }
  // Refuses tensors that nobody has taken.
  void refuse_leftovers() const;

 private:
  WeightSource take(const std::string& name);
  std::unique_ptr<DeviceVector> vector(const std::string& name, uint64_t width, float offset);
  void report(uint64_t bytes);
  [[noreturn]] void refuse_shape(const std::string& name, std::initializer_list<uint64_t> expected,
                                 std::span<const uint64_t> found) const;

  ModelFiles& files_;
  const ModelConfig& config_;
  Backend& backend_;
  uint64_t bytes_done_ = 0, bytes_total_ = 0;
};

}  // namespace tritllm
