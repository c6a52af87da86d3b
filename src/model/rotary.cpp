#include "model/rotary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "core/error.h"

namespace tritllm {

namespace {

constexpr float kLargestFactor = 1e6f;

const Json* object_at(const Json& config, std::string_view key, const std::string& where) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return nullptr;
  if (!found->is_object()) throw Error(ErrorCode::kBadInput, where, fmt::format("'{}' is no object", key));
  return &*found;
}

// The parameters of one kind of layer, gathered from wherever the file has them.
class Parameters {
 public:
  Parameters(const Json& config, const RotarySettings& settings, uint32_t trained_positions, const std::string& where)
      : where_(where), trained_positions_(trained_positions) {
    const Json* const newer = object_at(config, "rope_parameters", where);
    const Json* const older = object_at(config, "rope_scaling", where);
    const auto older_theta = json_optional_number(config, settings.theta_key, where, 1.0, 1e12);
    if (newer != nullptr) {
      const Json* const nested = object_at(*newer, settings.layer_type, where);
      values_ = nested != nullptr ? *nested : *newer;
      if (older != nullptr && settings.scaled && !agrees(*older)) conflict("rope_scaling");
    } else if (older != nullptr && settings.scaled) {
      values_ = *older;
    }
    const auto theta = json_optional_number(values_, "rope_theta", where, 1.0, 1e12);
    if (newer != nullptr && theta && older_theta && *theta != *older_theta) conflict(settings.theta_key);
    theta_ = static_cast<float>(theta ? *theta : older_theta.value_or(double{settings.default_theta}));
    type_ = json_optional_string(values_, "rope_type", where)
                .value_or(json_optional_string(values_, "type", where).value_or("default"));
    if (json_optional_number(values_, "partial_rotary_factor", where, 0.0, 1.0).value_or(1.0) != 1.0 ||
        json_optional_number(config, "partial_rotary_factor", where, 0.0, 1.0).value_or(1.0) != 1.0) {
      throw Error(ErrorCode::kUnsupported, where, "'partial_rotary_factor' is not 1",
                  "the engine runs models that rotate whole heads");
    }
  }

  const std::string& type() const noexcept { return type_; }
  float theta() const noexcept { return theta_; }
  const Json& values() const noexcept { return values_; }

  float number(std::string_view key, double least, double most) const {
    const auto value = json_optional_number(values_, key, where_, least, most);
    if (!value) throw Error(ErrorCode::kBadInput, where_, fmt::format("rotary type '{}' needs '{}'", type_, key));
    return static_cast<float>(*value);
  }
  double number_or(std::string_view key, double fallback, double least, double most) const {
    return json_optional_number(values_, key, where_, least, most).value_or(fallback);
  }
  float original_positions() const {
    return static_cast<float>(number_or("original_max_position_embeddings", trained_positions_, 1.0, 1e9));
  }

 private:
  bool agrees(const Json& older) const {
    for (const auto& [key, value] : older.items()) {
      const std::string_view name = key == "type" ? "rope_type" : std::string_view(key);
      const auto found = values_.find(name);
      if (found != values_.end() && *found != value) return false;
    }
    return true;
  }

  [[noreturn]] void conflict(std::string_view key) const {
    throw Error(ErrorCode::kBadInput, where_, fmt::format("'rope_parameters' and '{}' contradict each other", key),
                "remove the one that is wrong");
  }

  const std::string& where_;
  uint32_t trained_positions_;
  Json values_ = Json::object();
  std::string type_;
  float theta_ = 0.0f;
};

std::vector<float> plain_frequencies(float theta, uint32_t width) {
  std::vector<float> frequencies;
  for (uint32_t i = 0; i < width; i += 2) {
    frequencies.push_back(1.0f / std::pow(theta, static_cast<float>(i) / static_cast<float>(width)));
  }
  return frequencies;
}

RotaryFrequencies linear(const Parameters& parameters, uint32_t width) {
  RotaryFrequencies result{plain_frequencies(parameters.theta(), width), 1.0f};
  const float factor = parameters.number("factor", 1e-3, kLargestFactor);
  for (float& frequency : result.inverse_wavelengths) frequency /= factor;
  return result;
}

// Llama 3.1: long wavelengths are stretched by the factor, short ones stay, those between are interpolated.
RotaryFrequencies llama3(const Parameters& parameters, uint32_t width, const std::string& where) {
  RotaryFrequencies result{plain_frequencies(parameters.theta(), width), 1.0f};
  const float factor = parameters.number("factor", 1e-3, kLargestFactor);
  const float low = parameters.number("low_freq_factor", 1e-3, kLargestFactor);
  const float high = parameters.number("high_freq_factor", 1e-3, kLargestFactor);
  if (!(high > low)) throw Error(ErrorCode::kBadInput, where, "'high_freq_factor' is not larger than 'low_freq_factor'");
  const float positions = parameters.original_positions();
  for (float& frequency : result.inverse_wavelengths) {
    const float wavelength = 2.0f * std::numbers::pi_v<float> / frequency;
    if (wavelength < positions / high) continue;
    const float smooth = (positions / wavelength - low) / (high - low);
    frequency = wavelength > positions / low ? frequency / factor : (1.0f - smooth) * frequency / factor + smooth * frequency;
  }
  return result;
}

// YaRN (Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023), section 3.2 and 3.4.
RotaryFrequencies yarn(const Parameters& parameters, uint32_t width) {
  RotaryFrequencies result{plain_frequencies(parameters.theta(), width), 1.0f};
  const double factor = double{parameters.number("factor", 1e-3, kLargestFactor)};
  const double positions = double{parameters.original_positions()}, dimensions = width;
  // The pair that turns `rotations` times within the original context.
  const auto pair_turning = [&](double rotations) {
    return dimensions * std::log(positions / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(double{parameters.theta()}));
  };
  double low = pair_turning(parameters.number_or("beta_fast", 32.0, 1e-3, 1e6));
  double high = pair_turning(parameters.number_or("beta_slow", 1.0, 1e-3, 1e6));
  const auto truncate = parameters.values().find("truncate");
  if (truncate == parameters.values().end() || !truncate->is_boolean() || truncate->get<bool>()) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dimensions - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < result.inverse_wavelengths.size(); ++i) {
    const auto ramp = static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
    float& frequency = result.inverse_wavelengths[i];
    frequency = frequency / static_cast<float>(factor) * ramp + frequency * (1.0f - ramp);
  }
  const auto amplitude = [&](double weight) { return factor <= 1.0 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0; };
  const double scale = parameters.number_or("mscale", 0.0, 0.0, 1e3),
               scale_all = parameters.number_or("mscale_all_dim", 0.0, 0.0, 1e3);
  const double inferred = scale != 0.0 && scale_all != 0.0 ? amplitude(scale) / amplitude(scale_all) : amplitude(1.0);
  result.amplitude = static_cast<float>(parameters.number_or("attention_factor", inferred, 0.0, 1e3));
  return result;
}

}  // namespace

RotaryFrequencies read_rotary_frequencies(const Json& config, const RotarySettings& settings, uint32_t head_width,
                                          uint32_t trained_positions, const std::string& where) {
  const Parameters parameters(config, settings, trained_positions, where);
  if (parameters.type() == "default") return {plain_frequencies(parameters.theta(), head_width), 1.0f};
  if (parameters.type() == "linear") return linear(parameters, head_width);
  if (parameters.type() == "llama3") return llama3(parameters, head_width, where);
  if (parameters.type() == "yarn") return yarn(parameters, head_width);
  throw Error(ErrorCode::kUnsupported, where, fmt::format("rotary type '{}'", printable(parameters.type())),
              "the engine knows default, linear, llama3 and yarn");
}

}  // namespace tritllm
