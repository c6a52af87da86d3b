// Owns the name of a configuration: a recipe and a depth, written RECIPE-dD.
#pragma once

#include <string>
#include <string_view>

namespace tritllm::codec {

enum class Recipe { kUniform, kOptimal };

struct Config {
  Recipe recipe = Recipe::kOptimal;
  int depth = 2;

  bool operator==(const Config&) const = default;
};

// Throws an Error of kUsage that lists what there is.
Config parse_config(std::string_view name);
std::string config_name(Config config);
std::string_view recipe_name(Recipe recipe) noexcept;

}  // namespace tritllm::codec
