// Owns the way of weights from a model's files onto a device: each tensor by the name and shape that io/decoder_tensors.h gives it,
// exactly once. Does not own what a tensor is for (layer.h, model.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "backend/backend.h"
#include "io/decoder_tensors.h"
#include "model/config.h"
#include "model/model_files.h"

namespace tritllm {

// A matrix of a model with the name that it has in the model's files.
struct Linear {
  std::string name;  // without ".weight"
  std::unique_ptr<DeviceMatrix> weights;
  std::unique_ptr<DeviceVector> bias;  // null: none
  bool rounds_input = false;           // as in Projection

  Projection into(Rows out, bool adds = false) const noexcept { return {weights.get(), bias.get(), out, adds, rounds_input}; }
};

class WeightLoader {
 public:
  // All three outlive the loader. Tensors that are taken leave `files`.
  WeightLoader(ModelFiles& files, const ModelConfig& config, Backend& backend) noexcept;

  const ModelConfig& config() const noexcept { return config_; }

  // Each refuses a tensor that is missing or of another shape. `layer` is read for the parts of a layer.
  std::unique_ptr<DeviceMatrix> matrix(DecoderPart part, uint32_t layer = 0);
  // With its bias, where the model has one.
  Linear linear(DecoderPart matrix, DecoderPart bias, uint32_t layer);
  // Null where the model has no such norm.
  std::unique_ptr<DeviceVector> gain(DecoderPart part, uint32_t layer = 0);

  // For a tensor that files may hold and that this model does not use.
  void ignore(DecoderPart part) { files_.weights.erase(decoder_tensor(shape_, part).name); }
  // Refuses tensors that nobody has taken.
  void refuse_leftovers() const;

 private:
  WeightSource take(const std::string& name);
  std::unique_ptr<DeviceMatrix> matrix(const DecoderTensor& tensor);
  std::unique_ptr<DeviceVector> vector(const DecoderTensor& tensor, float offset);
  void report(uint64_t bytes);
  [[noreturn]] void refuse_shape(const DecoderTensor& tensor, std::span<const uint64_t> found) const;

  ModelFiles& files_;
  const ModelConfig& config_;
  const DecoderShape shape_;
  Backend& backend_;
  uint64_t bytes_done_ = 0, bytes_total_ = 0;
};

}  // namespace tritllm
