// Names of configurations.
#include "codec/config.h"

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace tritllm::codec {
namespace {

TEST(Config, NamesAndConfigurationsBelongTogether) {
  EXPECT_EQ(config_name({Recipe::kUniform, 1}), "uniform-d1");
  EXPECT_EQ(config_name({Recipe::kOptimal, 4}), "optimal-d4");
  EXPECT_EQ(config_name({Recipe::kExact, kDepthOfMatrix}), "exact");
  EXPECT_EQ(usual_depth({Recipe::kOptimal, 2}), 2);
  EXPECT_EQ(usual_depth({Recipe::kExact, kDepthOfMatrix}), 4);
  EXPECT_EQ(parse_config("calibrated"), (Config{Recipe::kCalibrated, kDepthOfMatrix}));
  for (const RecipeRow& row : recipes()) {
    EXPECT_EQ(&recipe_row(row.recipe), &row);
    EXPECT_EQ(row.least_depth, row.recipe == Recipe::kExact ? kDepthOfMatrix : 1);
    EXPECT_EQ(row.most_depth, row.recipe == Recipe::kExact ? kDepthOfMatrix : 4);
    for (int depth = row.least_depth; depth <= row.most_depth; ++depth) {
      const Config config{row.recipe, depth};
      EXPECT_EQ(parse_config(config_name(config)), config);
      EXPECT_EQ(find_recipe(config_name(config)), &row);
    }
  }
}

TEST(Config, UnknownRecipesAreNotFound) {
  for (const char* const name : {"", "-d2", "other-d2", "optimalx-d2"}) EXPECT_EQ(find_recipe(name), nullptr) << name;
}

TEST(Config, OtherNamesAreRefusedWithTheChoices) {
  for (const std::string name :
       {"", "uniform", "uniform-d", "uniform-d0", "uniform-d5", "uniform-d22", "Uniform-d2", "optimal-d2 ", " optimal-d2",
        "optimal_d2", "optimal-d-1", "calibrated-d0", "calibrated-d5", "optimal-d2,uniform-d1", "exact-d0", "exact-d2"}) {
    try {
      parse_config(name);
      ADD_FAILURE() << "accepted: '" << name << "'";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(error.problem().find("'" + name + "'"), std::string::npos) << error.what();
      EXPECT_NE(error.remedy().find("uniform-d1"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace tritllm::codec
