#include "model/weight_loader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>
#include <vector>

#include "core/error.h"
#include "model/families.h"

namespace tritllm {

namespace {

// Older checkpoints store the rotary frequencies, which config.json determines.
bool is_buffer(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

std::string shape_text(std::span<const uint64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace

WeightLoader::WeightLoader(ModelFiles& files, const ModelConfig& config, Backend& backend) noexcept
    : files_(files), config_(config), shape_(config.decoder_shape()), backend_(backend) {
  bytes_total_ = weight_bytes(files_);
}

std::unique_ptr<DeviceMatrix> WeightLoader::matrix(DecoderPart part, uint32_t layer) {
  return matrix(decoder_tensor(shape_, part, layer));
}

std::unique_ptr<DeviceMatrix> WeightLoader::matrix(const DecoderTensor& tensor) {
  const WeightSource source = take(tensor.name);
  std::vector<uint64_t> found;
  if (const SourceTensor* const dense = source.dense()) {
    if (!is_weight_type(dense->type)) refuse_shape(tensor, dense->shape);
    found = dense->shape;
  } else {
    found = {source.ternary()->shape.rows, source.ternary()->shape.columns};
  }
  if (found != tensor.shape) refuse_shape(tensor, found);
  auto uploaded = backend_.upload_matrix(source);
  // The device has a ternary matrix in a layout of its own: the model is never in memory twice.
  if (source.ternary() != nullptr) source.release();
  report(source.bytes());
  return uploaded;
}

Linear WeightLoader::linear(DecoderPart matrix_part, DecoderPart bias_part, uint32_t layer) {
  const DecoderTensor tensor = decoder_tensor(shape_, matrix_part, layer);
  Linear result{tensor.name.substr(0, tensor.name.rfind('.')), matrix(tensor), nullptr, config_.rounds_activations};
  if (has_part(shape_, bias_part)) result.bias = vector(decoder_tensor(shape_, bias_part, layer), 0.0f);
  return result;
}

std::unique_ptr<DeviceVector> WeightLoader::gain(DecoderPart part, uint32_t layer) {
  if (!has_part(shape_, part)) return nullptr;
  return vector(decoder_tensor(shape_, part, layer), config_.family->gains_are_offsets ? 1.0f : 0.0f);
}

std::unique_ptr<DeviceVector> WeightLoader::vector(const DecoderTensor& tensor, float offset) {
  const WeightSource source = take(tensor.name);
  const SourceTensor* const dense = source.dense();
  if (dense == nullptr)
    throw Error(ErrorCode::kBadInput, weight_place(files_, tensor.name), "is ternary; expected a vector of floats");
  if (dense->shape != tensor.shape || !is_weight_type(dense->type)) refuse_shape(tensor, dense->shape);
  std::vector<float> values(dense->shape[0]);
  read_float32(*dense, 0, values);
  for (float& value : values) value += offset;
  return backend_.upload_vector(values);
}

void WeightLoader::refuse_leftovers() const {
  for (const auto& [name, source] : files_.weights) {
    if (is_buffer(name)) continue;
    throw Error(ErrorCode::kBadInput, weight_place(files_, name),
                fmt::format("{} has no place for this tensor", config_.family->architecture),
                "the model would compute something else without it; check config.json");
  }
}

void WeightLoader::report(uint64_t bytes) {
  bytes_done_ += bytes;
  if (files_.on_progress) files_.on_progress(bytes_done_, bytes_total_);
}

WeightSource WeightLoader::take(const std::string& name) {
  const auto found = files_.weights.find(name);
  if (found == files_.weights.end()) {
    throw Error(ErrorCode::kNotFound, weight_place(files_, name), "is missing, but config.json asks for it");
  }
  WeightSource source = std::move(found->second);
  files_.weights.erase(found);
  return source;
}

void WeightLoader::refuse_shape(const DecoderTensor& tensor, std::span<const uint64_t> found) const {
  throw Error(ErrorCode::kBadInput, weight_place(files_, tensor.name),
              fmt::format("expected floats of shape {} by config.json, found {}", shape_text(tensor.shape), shape_text(found)));
}

}  // namespace tritllm
