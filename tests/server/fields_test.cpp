#include "server/fields.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "sampling/sampler_options.h"
#include "server/api_error.h"

namespace tritllm::server {
namespace {

const FieldTable kTable = {{"name", FieldType::kText, "", 1, 5, true},
                           {"count", FieldType::kInteger, "", 0, 10},
                           {"stop", FieldType::kTexts, "", 0, 2},
                           {"store", FieldType::kAny, "", 0, 0, false, FieldUse::kOneValue, "false"},
                           {"user", FieldType::kText, "", 0, 0, false, FieldUse::kWithoutEffect}};

std::string refused_field(const std::string& request) {
  try {
    check_fields(parse_json(request, "request"), kTable);
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 400u);
    return error.param().empty() ? "?" : error.param();
  }
  return "";
}

TEST(Fields, AreCheckedByTheTable) {
  EXPECT_EQ(refused_field(R"({"name": "a", "count": 10, "stop": ["x", "y"], "store": false, "user": "u"})"), "");
  EXPECT_EQ(refused_field(R"({"name": "a", "count": null, "stop": "x"})"), "");
  EXPECT_EQ(refused_field(R"({"count": 1})"), "name");
  EXPECT_EQ(refused_field(R"({"name": null})"), "name");
  EXPECT_EQ(refused_field(R"({"name": ""})"), "name");
  EXPECT_EQ(refused_field(R"({"name": "a", "count": 11})"), "count");
  EXPECT_EQ(refused_field(R"({"name": "a", "count": -1})"), "count");
  EXPECT_EQ(refused_field(R"({"name": "a", "count": 1.0})"), "count");
  EXPECT_EQ(refused_field(R"({"name": "a", "count": "1"})"), "count");
  EXPECT_EQ(refused_field(R"({"name": "a", "stop": ["x", 1]})"), "stop");
  EXPECT_EQ(refused_field(R"({"name": "a", "stop": ["x", "y", "z"]})"), "stop");
  EXPECT_EQ(refused_field(R"({"name": "a", "store": true})"), "store");
  EXPECT_EQ(refused_field(R"({"name": "a", "nam": 1})"), "nam");
  EXPECT_EQ(refused_field("[]"), "?");
}

TEST(Fields, AreDescribedByTheSameTable) {
  const Json schema = schema_of(kTable);
  EXPECT_EQ(schema["required"], Json::array({"name"}));
  EXPECT_EQ(schema["properties"]["count"]["maximum"], 10);
  EXPECT_EQ(schema["properties"]["store"]["enum"], Json::array({false, nullptr}));
  EXPECT_EQ(schema["properties"]["count"]["type"], Json::array({"integer", "null"}));
  EXPECT_EQ(schema["properties"]["name"]["type"], "string");
  EXPECT_EQ(schema["additionalProperties"], false);
}

TEST(Fields, HoldEveryNumberOfTheSampler) {
  const FieldTable table = sampling_fields();
  for (const SamplerField& field : sampler_fields())
    EXPECT_NE(std::ranges::find(table, field.name, &RequestField::name), table.end()) << field.name;
}

}  // namespace
}  // namespace tritllm::server
