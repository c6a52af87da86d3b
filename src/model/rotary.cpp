// Owns the arithmetic of each rotary type and the reading of its parameters.
#include "model/rotary.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/json.h"

namespace tritllm {

namespace {

constexpr float kLargestFactor = 1e6f;

// Fields that some rotary type reads, and one that old YaRN models carry for their trainers. What a field outside of this list
// would do is unknown.
constexpr std::array<std::string_view, 15> kKnownFields{
    "rope_theta",      "rope_type",        "type",      "factor",    "original_max_position_embeddings",
    "low_freq_factor", "attention_factor", "beta_fast", "beta_slow", "high_freq_factor",
    "mscale_all_dim",  "mscale",           "truncate",  "finetuned", "partial_rotary_factor"};

bool is_nested(const JsonView& parameters) { return parameters.has("full_attention") || parameters.has("sliding_attention"); }

// The parameters of one kind of layer, gathered from wherever the file has them.
class Parameters {
 public:
  Parameters(const JsonView& config, const RotarySettings& settings, uint32_t trained_positions)
      : config_(config), values_(none(), config.where()), trained_positions_(trained_positions) {
    const auto newer = object(config, "rope_parameters");
    const auto older = settings.scaled ? object(config, "rope_scaling") : std::nullopt;
    if (newer) values_ = part_of(*newer, settings);
    else if (older) values_ = *older;
    if (older && settings.per_layer_type && older->has("type") && !older->has("rope_type")) {
      throw Error(ErrorCode::kUnsupported, older->where(),
                  "names its type by 'type', which transformers ignores in this architecture", "call it 'rope_type'");
    }
    if (newer && older && !agree(*older, settings)) conflict("rope_scaling");
    refuse_unknown_fields();
    const auto theta = values_.optional_number("rope_theta", 1.0, 1e12);
    const auto older_theta = config.optional_number(settings.theta_key, 1.0, 1e12);
    if (newer && theta && older_theta && *theta != *older_theta) conflict(settings.theta_key);
    theta_ = static_cast<float>(theta ? *theta : older_theta.value_or(double{settings.default_theta}));
    type_ = values_.optional_text("rope_type").value_or(values_.optional_text("type").value_or("default"));
    const auto part = values_.optional_number("partial_rotary_factor", 0.0, 1.0);
    rotated_part_ = part ? *part : config.optional_number("partial_rotary_factor", 0.0, 1.0).value_or(1.0);
    if (rotated_part_ != 1.0 && type_ != "proportional") {
      throw Error(ErrorCode::kUnsupported, values_.where(), "'partial_rotary_factor' is not 1",
                  "the engine runs models that rotate whole heads");
    }
    // transformers reads it from the object around the layer types, where nobody writes it.
    if (settings.per_layer_type && !values_.optional_boolean("truncate").value_or(true)) {
      throw Error(ErrorCode::kUnsupported, values_.where(), "'truncate' is false for one kind of layer");
    }
  }

  const std::string& type() const noexcept { return type_; }
  float theta() const noexcept { return theta_; }
  double rotated_part() const noexcept { return rotated_part_; }
  const JsonView& values() const noexcept { return values_; }

  float number(std::string_view key, double least, double most) const {
    const auto value = values_.optional_number(key, least, most);
    if (!value) throw Error(ErrorCode::kBadInput, values_.where(), fmt::format("rotary type '{}' needs '{}'", type_, key));
    return static_cast<float>(*value);
  }
  double number_or(std::string_view key, double fallback, double least, double most) const {
    return values_.optional_number(key, least, most).value_or(fallback);
  }
  // A number next to the parameters counts before one among them.
  float original_positions() const {
    constexpr std::string_view kKey = "original_max_position_embeddings";
    const auto outside = config_.optional_number(kKey, 1.0, 1e9);
    return static_cast<float>(outside ? *outside : number_or(kKey, trained_positions_, 1.0, 1e9));
  }
  // The factor by which the context was stretched: as given, or where it is null, by comparing the two contexts.
  double stretch() const {
    const auto found = values_.json().find("factor");
    const bool is_null = found != values_.json().end() && found->is_null();
    return is_null ? double{static_cast<float>(trained_positions_)} / double{original_positions()}
                   : double{number("factor", 1e-3, kLargestFactor)};
  }

 private:
  static const Json& none() {
    static const Json object = Json::object();
    return object;
  }

  static std::optional<JsonView> object(const JsonView& config, std::string_view key) {
    const auto found = config.optional_child(key);
    if (found && !found->json().is_object()) found->refuse("a JSON object");
    return found && !found->json().empty() ? found : std::nullopt;
  }

  static JsonView part_of(const JsonView& newer, const RotarySettings& settings) {
    if (!settings.per_layer_type) {
      if (!is_nested(newer)) return newer;
      throw Error(ErrorCode::kUnsupported, newer.where(), "has parameters for each layer type",
                  "the model's architecture has one set of rotary parameters for all layers");
    }
    if (!is_nested(newer)) {
      throw Error(ErrorCode::kUnsupported, newer.where(), "expected parameters for 'full_attention' and 'sliding_attention'",
                  "transformers ignores rotary parameters of this architecture that stand outside of these two");
    }
    for (const auto& [key, value] : newer.members()) {
      if (key == "full_attention" || key == "sliding_attention") continue;
      throw Error(ErrorCode::kUnsupported, value.where(), "is not a layer type that the engine knows");
    }
    return object(newer, settings.layer_type).value_or(JsonView(none(), newer.where()));
  }

  void refuse_unknown_fields() const {
    for (const auto& [key, value] : values_.members()) {
      if (value.json().is_null() || std::ranges::find(kKnownFields, key) != kKnownFields.end()) continue;
      // Only longrope reads these two, and it is refused by its own name.
      if (key == "short_factor" || key == "long_factor") continue;
      throw Error(ErrorCode::kUnsupported, value.where(), "a rotary parameter that the engine does not know",
                  fmt::format("it knows {}", fmt::join(kKnownFields, ", ")));
    }
  }

  // Whether all that `a` states is stated by `b` too, with the same values.
  static bool is_within(const JsonView& a, const JsonView& b) {
    for (const auto& [key, value] : a.members()) {
      const std::string_view name = key == "type" ? "rope_type" : std::string_view(key);
      if (name == "rope_theta") continue;
      const Json& other = b.json();
      const auto found = name == "rope_type" && !other.contains(name) ? other.find("type") : other.find(name);
      if (found == other.end() || *found != value.json()) return false;
    }
    return true;
  }

  // transformers takes the older dialect where a file has both; where the two say the same, that makes no difference.
  bool agree(const JsonView& older, const RotarySettings& settings) const {
    if (!is_within(older, values_)) return false;
    if (settings.per_layer_type) return true;  // the older one is added to the newer
    const auto base_of = [&](const JsonView& parameters) {
      const auto theta = parameters.optional_number("rope_theta", 1.0, 1e12);
      return theta ? *theta : config_.optional_number(settings.theta_key, 1.0, 1e12).value_or(double{settings.default_theta});
    };
    return is_within(values_, older) && base_of(older) == base_of(values_);
  }

  [[noreturn]] void conflict(std::string_view key) const {
    throw Error(ErrorCode::kBadInput, config_.where(), fmt::format("'rope_parameters' and '{}' contradict each other", key),
                "remove the one that is wrong");
  }

  const JsonView& config_;
  JsonView values_;
  uint32_t trained_positions_;
  std::string type_;
  float theta_ = 0.0f;
  double rotated_part_ = 1.0;
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
RotaryFrequencies llama3(const Parameters& parameters, uint32_t width) {
  RotaryFrequencies result{plain_frequencies(parameters.theta(), width), 1.0f};
  const float factor = parameters.number("factor", 1e-3, kLargestFactor);
  const float low = parameters.number("low_freq_factor", 1e-3, kLargestFactor);
  const float high = parameters.number("high_freq_factor", 1e-3, kLargestFactor);
  if (!(high > low)) {
    throw Error(ErrorCode::kBadInput, parameters.values().where(), "'high_freq_factor' is not larger than 'low_freq_factor'");
  }
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
  const double factor = parameters.stretch();
  const double positions = double{parameters.original_positions()}, dimensions = width;
  // The pair that turns `rotations` times within the original context.
  const auto pair_turning = [&](double rotations) {
    return dimensions * std::log(positions / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(double{parameters.theta()}));
  };
  double low = pair_turning(parameters.number_or("beta_fast", 32.0, 1e-3, 1e6));
  double high = pair_turning(parameters.number_or("beta_slow", 1.0, 1e-3, 1e6));
  if (parameters.values().optional_boolean("truncate").value_or(true)) {
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

// A part of the pairs turns as usual, the others not at all.
RotaryFrequencies proportional(const Parameters& parameters, uint32_t width) {
  RotaryFrequencies result{plain_frequencies(parameters.theta(), width), 1.0f};
  const auto factor = static_cast<float>(parameters.number_or("factor", 1.0, 1e-3, kLargestFactor));
  const auto turning = static_cast<size_t>(std::floor(parameters.rotated_part() * width)) / 2;
  for (size_t i = 0; i < result.inverse_wavelengths.size(); ++i) {
    float& frequency = result.inverse_wavelengths[i];
    frequency = i < turning ? frequency / factor : 0.0f;
  }
  return result;
}

// Beyond the trained context, the base would grow with the text. The engine runs no longer texts, so nothing grows.
RotaryFrequencies dynamic(const Parameters& parameters, uint32_t width) {
  parameters.number("factor", 1e-3, kLargestFactor);
  return {plain_frequencies(parameters.theta(), width), 1.0f};
}

}  // namespace

RotaryFrequencies read_rotary_frequencies(const JsonView& config, const RotarySettings& settings, uint32_t head_width,
                                          uint32_t trained_positions) {
  const Parameters parameters(config, settings, trained_positions);
  if (parameters.type() == "default") return {plain_frequencies(parameters.theta(), head_width), 1.0f};
  if (parameters.type() == "linear") return linear(parameters, head_width);
  if (parameters.type() == "dynamic") return dynamic(parameters, head_width);
  if (parameters.type() == "llama3") return llama3(parameters, head_width);
  if (parameters.type() == "yarn") return yarn(parameters, head_width);
  if (parameters.type() == "proportional") return proportional(parameters, head_width);
  throw Error(ErrorCode::kUnsupported, parameters.values().where(), fmt::format("rotary type '{}'", printable(parameters.type())),
              "the engine knows default, linear, dynamic, llama3, yarn and proportional");
}

}  // namespace tritllm
