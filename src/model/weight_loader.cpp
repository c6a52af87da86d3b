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
    : files_(files), config_(config), backend_(backend) {
  bytes_total_ = weight_bytes(files_);
}

std::unique_ptr<DeviceMatrix> WeightLoader::matrix(const std::string& name, uint64_t rows, uint64_t columns) {
  const WeightSource source = take(name);
  uint64_t found[2];
  if (const SourceTensor* const tensor = source.dense()) {
    if (tensor->shape.size() != 2 || !is_weight_type(tensor->type)) refuse_shape(name, {rows, columns}, tensor->shape);
    found[0] = tensor->rows(), found[1] = tensor->columns();
  } else {
    found[0] = source.ternary()->shape.rows, found[1] = source.ternary()->shape.columns;
  }
  if (found[0] != rows || found[1] != columns) refuse_shape(name, {rows, columns}, found);
  auto uploaded = backend_.upload_matrix(source);
  // The device has a ternary matrix in a layout of its own: the model is never in memory twice.
  if (source.ternary() != nullptr) source.release();
  report(source.bytes());
  return uploaded;
}

Linear WeightLoader::linear(const std::string& name, uint64_t rows, uint64_t columns, bool with_bias) {
  Linear result{name, matrix(name + ".weight", rows, columns), nullptr};
  if (with_bias) result.bias = vector(name + ".bias", rows, 0.0f);
  return result;
}

std::unique_ptr<DeviceVector> WeightLoader::gain(const std::string& name, uint64_t width) {
  return vector(name, width, config_.family->gains_are_offsets ? 1.0f : 0.0f);
}

std::unique_ptr<DeviceVector> WeightLoader::gain_if(bool wanted, const std::string& name, uint64_t width) {
  return wanted ? gain(name, width) : nullptr;
}

std::unique_ptr<DeviceVector> WeightLoader::vector(const std::string& name, uint64_t width, float offset) {
  const WeightSource source = take(name);
  const SourceTensor* const tensor = source.dense();
  if (tensor == nullptr) throw Error(ErrorCode::kBadInput, weight_place(files_, name), "is ternary; expected a vector of floats");
  if (tensor->shape.size() != 1 || tensor->shape[0] != width || !is_weight_type(tensor->type)) {
    refuse_shape(name, {width}, tensor->shape);
  }
  std::vector<float> values(width);
  read_float32(*tensor, 0, values);
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

void WeightLoader::refuse_shape(const std::string& name, std::initializer_list<uint64_t> expected,
                                std::span<const uint64_t> found) const {
  throw Error(ErrorCode::kBadInput, weight_place(files_, name),
              fmt::format("expected floats of shape {} by config.json, found {}", shape_text(expected), shape_text(found)));
}

}  // namespace tritllm
