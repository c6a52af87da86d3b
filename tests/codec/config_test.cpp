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
  for (const Recipe recipe : {Recipe::kUniform, Recipe::kOptimal}) {
    for (int depth = 1; depth <= 4; ++depth) {
      const Config config{recipe, depth};
      EXPECT_EQ(parse_config(config_name(config)), config);
    }
  }
}

TEST(Config, OtherNamesAreRefusedWithTheChoices) {
  for (const std::string name : {"", "uniform", "uniform-d", "uniform-d0", "uniform-d5", "uniform-d22", "Uniform-d2", "optimal-d2 ",
                                 " optimal-d2", "optimal_d2", "optimal-d-1", "calibrated-d2", "optimal-d2,uniform-d1"}) {
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
