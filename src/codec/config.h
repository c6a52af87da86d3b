// Owns the recipes, a row of data for each, and the name of a configuration: a recipe and a depth, written RECIPE-dD, or the recipe
// alone where each matrix has the depth that it needs.
// Does not own what a recipe does to a matrix (quantizer.h).
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace tritllm::codec {

enum class Recipe { kUniform, kOptimal, kCalibrated, kExact };

// How the scale of each group is found.
enum class ScaleSearch {
  kCandidates,  // the best of four candidates; a geometric codebook; the nearest of its scales
  kLeastError,  // the exact best step; a clustered codebook; the scale of least error. Takes an importance of the columns
  kGivesBack,   // scales and codes that give every weight of the source back, recovered from its values (exact_form.h)
};

// In place of a depth: each matrix has its own.
inline constexpr int kDepthOfMatrix = 0;

struct RecipeRow {
  Recipe recipe;
  std::string_view name;
  ScaleSearch search;
  int least_depth, most_depth;  // of configurations; kDepthOfMatrix where there is one configuration for all depths
  bool mixes_depths;            // there is one more configuration, in which matrices have depths of their own
  bool calibrates;  // rounds by what the model makes of a text (src/calibration); what is no layer's matrix as kLeastError
  double weights_per_second;  // on one thread of an AVX2 machine (docs/performance.md): enough to tell minutes from hours
  std::string_view needs;     // for the model card: what went in besides the weights
  std::string_view codebook;  // for the model card: how the 27 scales were chosen
  std::string_view method;    // for the model card
};

std::span<const RecipeRow> recipes() noexcept;
const RecipeRow& recipe_row(Recipe recipe) noexcept;
// The recipe that a configuration's name begins with; nullptr where this program does not know it.
const RecipeRow* find_recipe(std::string_view config_name) noexcept;

struct Config {
  Recipe recipe = Recipe::kOptimal;
  int depth = 2;

  bool operator==(const Config&) const = default;
};

// The depth of a matrix for which nothing else is said. Of recipe exact, the most that it may have.
int usual_depth(Config config) noexcept;

// Throws an Error of kUsage that lists what there is.
Config parse_config(std::string_view name);
std::string config_name(Config config);
std::string_view recipe_name(Recipe recipe) noexcept;

}  // namespace tritllm::codec
