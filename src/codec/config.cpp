#include "codec/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "codec/geometry.h"
#include "core/error.h"

namespace tritllm::codec {
namespace {

constexpr RecipeRow kRecipes[] = {
    {.recipe = Recipe::kUniform,
     .name = "uniform",
     .search = ScaleSearch::kCandidates,
     .least_depth = 1,
     .most_depth = kMaxDepth,
     .mixes_depths = false,
     .calibrates = false,
     .weights_per_second = 150e6,
     .needs = "Made without calibration data.",
     .codebook = "27-entry log-spaced (scale_depth=3)",
     .method = "Uniform PTQ"},
    {.recipe = Recipe::kOptimal,
     .name = "optimal",
     .search = ScaleSearch::kLeastError,
     .least_depth = 1,
     .most_depth = kMaxDepth,
     .mixes_depths = false,
     .calibrates = false,
     .weights_per_second = 40e6,
     .needs = "Made without calibration data.",
     .codebook = "27-entry by dynamic programming and Lloyd's rounds (scale_depth=3)",
     .method = "Optimal PTQ: the least squared error of each group"},
    {.recipe = Recipe::kCalibrated,
     .name = "calibrated",
     .search = ScaleSearch::kLeastError,
     .least_depth = 1,
     .most_depth = kMaxDepth,
     .mixes_depths = true,
     .calibrates = true,
     .weights_per_second = 0.15e6,
     .needs = "Made with a calibration text.",
     .codebook = "27-entry by dynamic programming and Lloyd's rounds (scale_depth=3)",
     .method = "Calibrated PTQ: layer by layer, errors weighed by the model's inputs and fed forward"},
    {.recipe = Recipe::kExact,
     .name = "exact",
     .search = ScaleSearch::kGivesBack,
     .least_depth = kDepthOfMatrix,
     .most_depth = kDepthOfMatrix,
     .mixes_depths = false,
     .calibrates = false,
     .weights_per_second = 60e6,
     .needs = "The source's matrices were ternary already: every value of them is kept.",
     .codebook = "27-entry, recovered from the source's values (scale_depth=3)",
     .method = "Exact: no value is changed"},
};

std::string known_configs() {
  std::string list;
  for (const RecipeRow& row : kRecipes) {
    if (!list.empty()) list += ", ";
    list += config_name({row.recipe, row.least_depth});
    if (row.most_depth != row.least_depth) list += ".." + config_name({row.recipe, row.most_depth});
    if (row.mixes_depths) list += ", " + config_name({row.recipe, kDepthOfMatrix});
  }
  return list;
}

}  // namespace

std::span<const RecipeRow> recipes() noexcept { return kRecipes; }

const RecipeRow& recipe_row(Recipe recipe) noexcept {
  return *std::find_if(std::begin(kRecipes), std::end(kRecipes), [=](const RecipeRow& row) { return row.recipe == recipe; });
}

const RecipeRow* find_recipe(std::string_view config_name) noexcept {
  const std::string_view name = config_name.substr(0, config_name.rfind("-d"));
  const auto found = std::find_if(std::begin(kRecipes), std::end(kRecipes), [=](const RecipeRow& row) { return row.name == name; });
  return found == std::end(kRecipes) ? nullptr : &*found;
}

std::string_view recipe_name(Recipe recipe) noexcept { return recipe_row(recipe).name; }

std::string config_name(Config config) {
  if (config.depth == kDepthOfMatrix) return std::string(recipe_name(config.recipe));
  return fmt::format("{}-d{}", recipe_name(config.recipe), config.depth);
}

int usual_depth(Config config) noexcept { return config.depth == kDepthOfMatrix ? kMaxDepth : config.depth; }

Config parse_config(std::string_view name) {
  for (const RecipeRow& row : kRecipes) {
    for (int depth = row.least_depth; depth <= row.most_depth; ++depth) {
      if (const Config config{row.recipe, depth}; name == config_name(config)) return config;
    }
    if (const Config config{row.recipe, kDepthOfMatrix}; row.mixes_depths && name == config_name(config)) return config;
  }
  throw Error(ErrorCode::kUsage, "options.configs", fmt::format("unknown configuration '{}'", name),
              "choose from " + known_configs());
}

}  // namespace tritllm::codec
