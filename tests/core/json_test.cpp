// Owns the cases of core/json.h: what a strict reader refuses, and the errors of its typed look-ups.
#include "core/json.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "core/error.h"

namespace tritllm {
namespace {

// The message of the Error that `action` throws; empty where it throws none.
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
    return error.what();
  }
  return "";
}

std::string refusal(const std::string& text, int depth_limit = kJsonDepthLimit) {
  return message_of([&] { parse_json(text, "a.json", depth_limit); });
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(Json, ReadsEveryKindOfValue) {
  const Json document = parse_json(
      R"({"s": "\u00e9\ud83d\ude42", "n": -1.5e3, "i": 9007199254740993, "t": true, "z": null, "a": [1, {"b": []}]})", "a.json");
  EXPECT_EQ(document["s"], "é🙂");
  EXPECT_EQ(document["n"], -1500.0);
  EXPECT_EQ(document["i"].get<uint64_t>(), 9007199254740993u);  // 2^53 + 1, which no double holds
  EXPECT_EQ(document["t"], true);
  EXPECT_TRUE(document["z"].is_null());
  EXPECT_EQ(document["a"][1]["b"], Json::array());
  EXPECT_EQ(parse_json("7", "a.json"), 7);
}

TEST(Json, KeepsTheOrderOfKeysAndWritesItBack) {
  const std::string text = "{\n  \"z\": 1,\n  \"a\": {\n    \"y\": \"é\",\n    \"b\": []\n  }\n}\n";
  EXPECT_EQ(json_text(parse_json(text, "a.json")), text);
}

TEST(Json, RefusesADuplicateKey) {
  EXPECT_EQ(refusal(R"({"a": 1, "b": {"a": 1}, "a": 2})"), "a.json: the key \"a\" stands twice in one JSON object");
  EXPECT_EQ(refusal(R"([{"a": 1}, {"a": 2}])"), "");
  EXPECT_TRUE(contains(refusal(R"({"a": 1, "\u0061": 2})"), "stands twice"));  // one key, written in two ways
  EXPECT_TRUE(contains(refusal(R"({"o": {"a": 1, "x": {"y": 2}, "a": 3}})"), "\"a\" stands twice"));
}

TEST(Json, BoundsTheDepth) {
  EXPECT_EQ(refusal(nested(kJsonDepthLimit)), "");
  EXPECT_TRUE(contains(refusal(nested(kJsonDepthLimit + 1)), "nested deeper than the limit of 64 levels"));
  EXPECT_TRUE(contains(refusal(std::string(5000000, '[')), "nested deeper"));
  EXPECT_EQ(refusal("[1]", 1), "");
  EXPECT_TRUE(contains(refusal(R"([{"a": 1}])", 1), "nested deeper"));
}

TEST(Json, RefusesBadUtf8) {
  EXPECT_TRUE(contains(refusal("\"\xff\""), "not valid JSON at byte"));
  EXPECT_TRUE(contains(refusal("\"\xed\xa0\x80\""), "not valid JSON at byte"));
  EXPECT_TRUE(contains(refusal("\"\xc0\xaf\""), "not valid JSON at byte"));
  EXPECT_TRUE(contains(refusal(R"("\ud800")"), "not valid JSON at byte"));  // half a surrogate pair
  EXPECT_TRUE(contains(refusal("{\"\xf5\": 1}"), "not valid JSON at byte"));
}

TEST(Json, RefusesWhatOnlyLenientReadersTake) {
  for (const char* text :
       {"",   " ",  "{",  "[1,]", "{\"a\":1,}", "{'a':1}", "{a:1}",  "[1] 2",     "// c\n1", "NaN",   "Infinity",  "-",
        "01", "+1", "1.", ".5",   "1e",         "0x10",    "\"\t\"", "\"\\x41\"", "nul",     "[1 2]", "{\"a\" 1}", "\"open"}) {
    EXPECT_TRUE(contains(refusal(text), "a.json: not valid JSON at byte")) << text;
  }
  EXPECT_EQ(refusal(std::string("1\0 2", 4)), "a.json: not valid JSON at byte 2: a NUL byte");
  EXPECT_NE(refusal("1e400"), "");  // no double holds it
}

TEST(Json, ErrorNamesThePlace) {
  EXPECT_TRUE(contains(refusal(R"({"a": 1, "b": x})"), "at byte 15")) << refusal(R"({"a": 1, "b": x})");
}

TEST(Json, TakesTimeInProportionToTheKeys) {
  std::string text = "{";
  for (int key = 0; key < 300000; ++key) text += "\"key" + std::to_string(key) + "\":0,";
  text.back() = '}';
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(parse_json(text, "a.json").size(), 300000u);
  // A quadratic reader compares 4.5e10 pairs here, which takes minutes; a linear one takes well under a second.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

class JsonFields : public testing::Test {
 protected:
  const Json object_ = parse_json(R"({"name": "x", "rows": 16, "negative": -1, "half": 0.5, "big": 18446744073709551615,
                                      "flag": true, "nothing": null})",
                                  "a.json");
  uint64_t integer(const char* key, uint64_t least = 0, uint64_t most = kLargestJsonInteger) const {
    return json_integer(object_, key, "a.json", least, most);
  }
};

TEST_F(JsonFields, Strings) {
  EXPECT_EQ(json_string(object_, "name", "a.json"), "x");
  EXPECT_EQ(message_of([&] { json_string(object_, "rows", "a.json"); }), "a.json: /rows: expected a string, found 16");
  EXPECT_EQ(message_of([&] { json_string(object_, "nobody", "a.json"); }), "a.json: the field \"nobody\" is missing");
  EXPECT_EQ(json_optional_string(object_, "nothing", "a.json"), std::nullopt);
  EXPECT_EQ(json_optional_string(object_, "nobody", "a.json"), std::nullopt);
  EXPECT_NE(message_of([&] { json_optional_string(object_, "rows", "a.json"); }), "");
}

TEST_F(JsonFields, IntegersWithinTheirRange) {
  EXPECT_EQ(integer("rows", 16, 16), 16u);
  EXPECT_EQ(message_of([&] { integer("rows", 17, 20); }), "a.json: /rows: expected a whole number from 17 to 20, found 16");
  EXPECT_NE(message_of([&] { integer("rows", 0, 15); }), "");
  EXPECT_NE(message_of([&] { integer("negative"); }), "");
  EXPECT_NE(message_of([&] { integer("half"); }), "");
  EXPECT_NE(message_of([&] { integer("big"); }), "");  // beyond int64_t, the default's end
  EXPECT_EQ(integer("big", 0, UINT64_MAX), UINT64_MAX);
  EXPECT_NE(message_of([&] { integer("flag"); }), "");
  EXPECT_EQ(json_optional_integer(object_, "nothing", "a.json"), std::nullopt);
  EXPECT_EQ(json_optional_integer(object_, "rows", "a.json"), 16u);
}

TEST_F(JsonFields, Booleans) {
  EXPECT_TRUE(json_boolean_or(object_, "flag", false, "a.json"));
  EXPECT_TRUE(json_boolean_or(object_, "nobody", true, "a.json"));
  EXPECT_FALSE(json_boolean_or(object_, "nothing", false, "a.json"));
  EXPECT_EQ(message_of([&] { json_boolean_or(object_, "rows", false, "a.json"); }),
            "a.json: /rows: expected true or false, found 16");
}

TEST_F(JsonFields, OfSomethingThatIsNoObject) {
  EXPECT_NE(message_of([&] { json_field(Json::array(), "a", "a.json"); }), "");
  EXPECT_NE(message_of([&] { json_string(Json("text"), "a", "a.json"); }), "");
}

TEST_F(JsonFields, ErrorShowsOnlyTheStartOfALargeValue) {
  const Json large = {{"name", Json::array_t(100000, 1)}};
  EXPECT_LT(message_of([&] { json_string(large, "name", "a.json"); }).size(), 200u);
}

}  // namespace
}  // namespace tritllm
