#include "codec/config.h"

#include <fmt/format.h>

#include "codec/geometry.h"
#include "core/error.h"

namespace tritllm::codec {

std::string_view recipe_name(Recipe recipe) noexcept { return recipe == Recipe::kUniform ? "uniform" : "optimal"; }

std::string config_name(Config config) { return fmt::format("{}-d{}", recipe_name(config.recipe), config.depth); }

Config parse_config(std::string_view name) {
  for (const Recipe recipe : {Recipe::kUniform, Recipe::kOptimal}) {
    for (int depth = 1; depth <= kMaxDepth; ++depth) {
      if (const Config config{recipe, depth}; name == config_name(config)) return config;
    }
  }
  throw Error(ErrorCode::kUsage, "options.configs", fmt::format("unknown configuration '{}'", name),
              "choose from uniform-d1..uniform-d4 and optimal-d1..optimal-d4");
}

}  // namespace tritllm::codec
