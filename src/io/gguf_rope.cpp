#include "io/gguf_rope.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "io/gguf_config.h"

namespace tritllm {
namespace {

// Llama 3 stretches slow rotations by a factor and blends in between. A file holds only the resulting factors, so they are
// compared with what each published set of parameters gives.
struct Llama3Scaling {
  double factor, low_frequency_factor, high_frequency_factor, original_context;
};
constexpr Llama3Scaling kLlama3Scalings[] = {
    {8.0, 1.0, 4.0, 8192.0},   // Llama 3.1 and 3.3
    {32.0, 1.0, 4.0, 8192.0},  // Llama 3.2
};
// The converter works in float32; errors of its powers stay below this, neighbouring parameter sets far above.
constexpr double kFactorTolerance = 1e-4;

double llama3_factor(const Llama3Scaling& scaling, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  if (wavelength < scaling.original_context / scaling.high_frequency_factor) return 1.0;
  if (wavelength > scaling.original_context / scaling.low_frequency_factor) return scaling.factor;
  const double blend = (scaling.original_context / wavelength - scaling.low_frequency_factor) /
                       (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return 1.0 / ((1.0 - blend) / scaling.factor + blend);
}

bool reproduces(const Llama3Scaling& scaling, const std::vector<float>& factors, float rope_theta) {
  const double dimension = 2.0 * static_cast<double>(factors.size());
  for (size_t i = 0; i < factors.size(); ++i) {
    const double frequency = std::pow(static_cast<double>(rope_theta), -2.0 * static_cast<double>(i) / dimension);
    const double expected = llama3_factor(scaling, frequency);
    // Written so that a NaN does not pass.
    if (!(std::abs(static_cast<double>(factors[i]) - expected) <= kFactorTolerance * expected)) return false;
  }
  return true;
}

Json llama3_scaling_of(const GgufFile& file, const GgufTensor& tensor, const GgufDimensions& dimensions, float rope_theta) {
  const std::string place = fmt::format("{}: tensor '{}'", file.where(), tensor.name);
  const uint64_t count = dimensions.head_dimension / 2;
  if (tensor.dimension_count != 1 || tensor.dimensions[0] != count) {
    throw Error(ErrorCode::kBadInput, place, fmt::format("expected {} factors", count));
  }
  std::vector<float> factors(count);
  read_float32({"", {count}, tensor.type, tensor.bytes, place}, 0, factors);
  if (reproduces({1.0, 1.0, 4.0, 8192.0}, factors, rope_theta)) return nullptr;
  for (const Llama3Scaling& scaling : kLlama3Scalings) {
    if (!reproduces(scaling, factors, rope_theta)) continue;
    return {{"rope_type", "llama3"},
            {"factor", scaling.factor},
            {"low_freq_factor", scaling.low_frequency_factor},
            {"high_freq_factor", scaling.high_frequency_factor},
            {"original_max_position_embeddings", static_cast<uint64_t>(scaling.original_context)}};
  }
  throw Error(ErrorCode::kUnsupported, place, "the rotary factors are those of no published Llama 3 scaling",
              "use the model's original folder");
}

float scaling_factor(const GgufFile& file) {
  const std::string key = architecture_key(file, "rope.scaling.factor");
  const auto factor = file.real(key);
  if (!factor || *factor < 1.0f) {
    throw Error(ErrorCode::kBadInput, fmt::format("{}: key '{}'", file.where(), key), "expected a factor of at least 1");
  }
  return *factor;
}

// A field that, at another value than its neutral one, means a computation that config.json cannot express.
void require_neutral(const GgufFile& file, std::string_view suffix, float neutral) {
  const std::string key = architecture_key(file, suffix);
  const auto value = file.real(key);
  if (!value || *value == neutral) return;
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: key '{}'", file.where(), key),
              fmt::format("expected {}, found {}", neutral, *value), "use the model's original folder");
}

Json yarn_scaling_of(const GgufFile& file) {
  require_neutral(file, "rope.scaling.yarn_ext_factor", 1.0f);
  require_neutral(file, "rope.scaling.yarn_attn_factor", 1.0f);
  require_neutral(file, "rope.scaling.attn_factor", 1.0f);
  require_neutral(file, "rope.scaling.yarn_log_multiplier", 0.0f);
  Json scaling = {{"rope_type", "yarn"},
                  {"factor", json_real(scaling_factor(file))},
                  {"original_max_position_embeddings",
                   file.required_integer(architecture_key(file, "rope.scaling.original_context_length"), kLargestJsonInteger)}};
  if (const auto fast = file.real(architecture_key(file, "rope.scaling.yarn_beta_fast"))) scaling["beta_fast"] = json_real(*fast);
  if (const auto slow = file.real(architecture_key(file, "rope.scaling.yarn_beta_slow"))) scaling["beta_slow"] = json_real(*slow);
  return scaling;
}

Json linear_scaling_of(float factor) {
  if (factor == 1.0f) return nullptr;
  return {{"rope_type", "linear"}, {"factor", json_real(factor)}};
}

}  // namespace

Json rope_scaling_of(const GgufFile& file, const GgufDimensions& dimensions, float rope_theta) {
  const std::string key = architecture_key(file, "rope.scaling.type");
  const std::string_view type = file.text(key).value_or("none");
  const GgufTensor* const factors = file.find_tensor("rope_freqs.weight");
  if (factors && type != "none") {
    throw Error(ErrorCode::kUnsupported, file.where(), "rotary factors together with another rotary scaling",
                "use the model's original folder");
  }
  if (factors) return llama3_scaling_of(file, *factors, dimensions, rope_theta);
  if (type == "linear") return linear_scaling_of(scaling_factor(file));
  if (type == "yarn") return yarn_scaling_of(file);
  if (type == "none") return linear_scaling_of(file.real(architecture_key(file, "rope.scale_linear")).value_or(1.0f));
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: key '{}'", file.where(), key),
              fmt::format("the rotary scaling '{}' is not read", printable(type)), "use the model's original folder");
}

}  // namespace tritllm
