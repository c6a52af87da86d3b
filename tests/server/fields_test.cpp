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
                           {"user", FieldType::kText, "", 0, 0, false, FieldUse::kWithoutEffect},
                           {.name = "choice",
                            .type = FieldType::kTextOrObject,
                            .words = {"all", "none"},
                            .members = {{{.name = "of", .type = FieldType::kText, .required = true}}}},
                           {.name = "items",
                            .type = FieldType::kTextOrArray,
                            .most = 2,
                            .members = {{{.name = "type", .type = FieldType::kText, .words = {"text"}},
                                         {.name = "text", .type = FieldType::kText, .required = true}},
                                        {{.name = "type", .type = FieldType::kText, .required = true, .words = {"count"}},
                                         {.name = "count", .type = FieldType::kInteger, .least = 1, .most = 2}}}}};

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
  EXPECT_EQ(refused_field(R"({"name": "a", "nam": null})"), "");
  EXPECT_EQ(refused_field("[]"), "?");
}

TEST(Fields, OfNestedObjectsAreCheckedByTheirShape) {
  const auto refused = [](const std::string& field) { return refused_field(R"({"name": "a", )" + field + "}"); };
  EXPECT_EQ(refused(R"("choice": "all", "items": "text")"), "");
  EXPECT_EQ(refused(R"("choice": {"of": "x"}, "items": [{"text": "a"}, {"type": "count", "count": 2}])"), "");
  EXPECT_EQ(refused(R"("items": [{"type": null, "text": "a"}])"), "");
  EXPECT_EQ(refused(R"("choice": "some")"), "choice");
  EXPECT_EQ(refused(R"("choice": ["all"])"), "choice");
  EXPECT_EQ(refused(R"("choice": {})"), "choice.of");
  EXPECT_EQ(refused(R"("choice": {"of": "x", "off": 1})"), "choice.off");
  EXPECT_EQ(refused(R"("items": [{"text": "a"}, {"text": "a"}, {"text": "a"}])"), "items");
  EXPECT_EQ(refused(R"("items": ["text"])"), "items[0]");
  EXPECT_EQ(refused(R"("items": [{"text": "a"}, {"type": "sum"}])"), "items[1].type");
  EXPECT_EQ(refused(R"("items": [{"type": 5, "text": "a"}])"), "items[0].type");
  EXPECT_EQ(refused(R"("items": [{"type": "text"}])"), "items[0].text");
  EXPECT_EQ(refused(R"("items": [{"type": "count", "text": "a"}])"), "items[0].text");
  EXPECT_EQ(refused(R"("items": [{"type": "count", "count": 3}])"), "items[0].count");
}

TEST(Fields, AreDescribedByTheSameTable) {
  const Json schema = schema_of(kTable);
  EXPECT_EQ(schema["required"], Json::array({"name"}));
  EXPECT_EQ(schema["properties"]["count"]["maximum"], 10);
  EXPECT_EQ(schema["properties"]["store"]["enum"], Json::array({false, nullptr}));
  EXPECT_EQ(schema["properties"]["count"]["type"], Json::array({"integer", "null"}));
  EXPECT_EQ(schema["properties"]["name"]["type"], "string");
  EXPECT_EQ(schema["additionalProperties"], Json({{"type", "null"}}));
  EXPECT_EQ(schema["properties"]["choice"]["anyOf"][0]["enum"], Json::array({"all", "none"}));
  const Json& items = schema["properties"]["items"]["anyOf"][1];
  EXPECT_EQ(items["maxItems"], 2);
  EXPECT_EQ(items["items"]["anyOf"][0]["required"], Json::array({"text"}));
  EXPECT_EQ(items["items"]["anyOf"][1]["additionalProperties"], Json({{"type", "null"}}));
}

TEST(Fields, HoldEveryNumberOfTheSampler) {
  const FieldTable table = sampling_fields();
  for (const SamplerField& field : sampler_fields())
    EXPECT_NE(std::ranges::find(table, field.name, &RequestField::name), table.end()) << field.name;
}

}  // namespace
}  // namespace tritllm::server
