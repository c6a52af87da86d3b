#include "app/chat_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <variant>

#include "core/error.h"

namespace tritllm::app {
namespace {

constexpr std::string_view kNoSeed = "random";

using Field = std::variant<float SamplerOptions::*, uint32_t SamplerOptions::*, uint32_t ChatSettings::*,
                           std::optional<uint64_t> ChatSettings::*>;

constexpr std::array<std::pair<std::string_view, Field>, 11> kFields{{{"temperature", &SamplerOptions::temperature},
                                                                      {"top_k", &SamplerOptions::top_k},
                                                                      {"top_p", &SamplerOptions::top_p},
                                                                      {"min_p", &SamplerOptions::min_p},
                                                                      {"typical_p", &SamplerOptions::typical_p},
                                                                      {"repeat_penalty", &SamplerOptions::repeat_penalty},
                                                                      {"presence_penalty", &SamplerOptions::presence_penalty},
                                                                      {"frequency_penalty", &SamplerOptions::frequency_penalty},
                                                                      {"penalty_window", &SamplerOptions::penalty_window},
                                                                      {"seed", &ChatSettings::seed},
                                                                      {"tokens", &ChatSettings::tokens}}};

std::string names() {
  std::string text;
  for (const auto& [name, field] : kFields) text += fmt::format("{}{}", text.empty() ? "" : ", ", name);
  return text;
}

const std::pair<std::string_view, Field>& find_field(std::string_view name) {
  std::string spelled(name);
  std::replace(spelled.begin(), spelled.end(), '-', '_');
  if (spelled == "temp") spelled = "temperature";
  const auto* const found = std::find_if(kFields.begin(), kFields.end(), [&](const auto& entry) { return entry.first == spelled; });
  if (found != kFields.end()) return *found;
  throw Error(ErrorCode::kUsage, printable(name), "is no setting", "the settings are " + names());
}

template <typename Number>
Number parse_number(std::string_view name, std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  constexpr const char* kExpected = std::is_floating_point_v<Number> ? "a number" : "a whole number";
  throw Error(ErrorCode::kUsage, name, fmt::format("expected {}, found '{}'", kExpected, printable(text)));
}

void set_value(ChatSettings& settings, std::string_view name, const Field& field, std::string_view text) {
  if (const auto* const real = std::get_if<float SamplerOptions::*>(&field)) {
    settings.sampler.*(*real) = parse_number<float>(name, text);
  } else if (const auto* const count = std::get_if<uint32_t SamplerOptions::*>(&field)) {
    settings.sampler.*(*count) = parse_number<uint32_t>(name, text);
  } else if (const auto* const own_count = std::get_if<uint32_t ChatSettings::*>(&field)) {
    settings.*(*own_count) = parse_number<uint32_t>(name, text);
  } else if (text == kNoSeed) {
    settings.seed.reset();
  } else {
    settings.seed = parse_number<uint64_t>(name, text);
  }
}

std::string value_text(const ChatSettings& settings, const Field& field) {
  if (const auto* const real = std::get_if<float SamplerOptions::*>(&field)) return fmt::format("{}", settings.sampler.*(*real));
  if (const auto* const count = std::get_if<uint32_t SamplerOptions::*>(&field))
    return fmt::format("{}", settings.sampler.*(*count));
  if (const auto* const own_count = std::get_if<uint32_t ChatSettings::*>(&field)) return fmt::format("{}", settings.*(*own_count));
  return settings.seed ? fmt::format("{}", *settings.seed) : std::string(kNoSeed);
}

}  // namespace

void change_setting(ChatSettings& settings, std::string_view name, std::string_view value, size_t vocabulary_size) {
  const auto& [full_name, field] = find_field(name);
  ChatSettings changed = settings;
  set_value(changed, full_name, field, value);
  validate(changed.sampler, vocabulary_size);
  settings = std::move(changed);
}

std::string settings_text(const ChatSettings& settings) {
  std::string text;
  for (const auto& [name, field] : kFields) {
    text += fmt::format("{}{:<17} {}", text.empty() ? "" : "\n", name, value_text(settings, field));
  }
  return text;
}

Json settings_json(const ChatSettings& settings) {
  Json json = Json::object();
  for (const auto& [name, field] : kFields) {
    // The shortest text of a float, read as JSON: 0.8, not 0.800000011920929.
    const std::string text = value_text(settings, field);
    json[std::string(name)] = text == kNoSeed ? Json() : parse_json(text, std::string(name));
  }
  return json;
}

ChatSettings changed_settings(ChatSettings settings, const Json& json, size_t vocabulary_size, const std::string& where) {
  if (!json.is_object())
    throw Error(ErrorCode::kBadInput, where, fmt::format("settings: expected an object, found {}", json.type_name()));
  for (const auto& [name, value] : json.items()) {
    if (!value.is_number() && !value.is_null()) {
      throw Error(ErrorCode::kBadInput, where,
                  fmt::format("settings: {}: expected a number, found {}", printable(name), value.type_name()));
    }
    try {
      change_setting(settings, name, value.is_null() ? std::string(kNoSeed) : value.dump(), vocabulary_size);
    } catch (const Error& error) {
      throw Error(ErrorCode::kBadInput, where, fmt::format("settings: {}: {}", error.where(), error.problem()), error.remedy());
    }
  }
  return settings;
}

}  // namespace tritllm::app
