// Owns the cases of core/json.h: what a strict reader refuses, and the errors of its typed look-ups.
#include "core/json.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

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

TEST(Json, PythonsNumbersAreReadWhereTheyAreExpected) {
  const std::string text = R"({"a": [Infinity, -Infinity, NaN, -1], "Infinity": "NaN \" Infinity", "n": null})";
  EXPECT_TRUE(contains(refusal(text), "not valid JSON"));
  const Json document = parse_python_json(text, "a.json");
  EXPECT_EQ(document["a"][0], std::numeric_limits<double>::infinity());
  EXPECT_EQ(document["a"][1], -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(document["a"][2].get<double>()));
  EXPECT_EQ(document["a"][3], -1);
  EXPECT_EQ(document["Infinity"], "NaN \" Infinity");
  EXPECT_EQ(json_text(document),
            "{\n  \"a\": [\n    Infinity,\n    -Infinity,\n    NaN,\n    -1\n  ],\n"
            "  \"Infinity\": \"NaN \\\" Infinity\",\n  \"n\": null\n}\n");
  for (const char* const bad : {"Inf", "nan", "-NaN", "+Infinity", "--Infinity", "Infinity1", "InfinityInfinity", "[NaN NaN]"}) {
    EXPECT_NE(message_of([&] { parse_python_json(bad, "a.json"); }), "") << bad;
  }
  EXPECT_EQ(message_of([&] { JsonView(document, "a.json").child("a").items()[2].number(0, 1e300); }),
            "a.json: /a/2: expected a number from 0 to 1e+300, found null");
}

TEST(Json, WritesAsTheLibraryDoes) {
  const Json document =
      parse_json(R"({"a": {}, "b": [], "c": [[1, {"d": "\u0001é"}], 0.1, 1e300, -0.0], "e": 18446744073709551615})", "");
  EXPECT_EQ(json_text(document), document.dump(2) + "\n");
}

// The members that are handed out, as "list:key=value".
std::vector<std::string> parts(const std::string& text, const std::vector<std::string_view>& lists, Json& rest) {
  std::vector<std::string> found;
  rest = parse_json_in_parts(text, "a.json", lists, [&](size_t list, std::string& key, const Json& value) {
    found.push_back(std::to_string(list) + ":" + key + "=" + value.dump());
  });
  return found;
}

TEST(JsonInParts, HandsOutTheMembersOfSomeLists) {
  using Found = std::vector<std::string>;
  Json rest;
  const std::string text =
      R"({"x": {"map": {"a": 1, "b": [{"c": {}}, 2], "a": null}, "y": 3}, "list": [1, [2, [3]], {}], "map": {"z": 0}})";
  EXPECT_EQ(parts(text, {"/x/map", "/list"}, rest),
            (Found{"0:a=1", R"(0:b=[{"c":{}},2])", "0:a=null", "1:=1", "1:=[2,[3]]", "1:={}"}));
  EXPECT_EQ(rest.dump(), R"({"x":{"map":{},"y":3},"list":[],"map":{"z":0}})");
  EXPECT_EQ(parts(R"({"a": {"b": 1}, "c": []})", {""}, rest), (Found{R"(0:a={"b":1})", "0:c=[]"}));
  EXPECT_EQ(parts(R"({"x": {"y": 3}, "list": [1]})", {"/nothing", "/x/y", "/list/0"}, rest), Found{});
  EXPECT_EQ(rest.dump(), R"({"x":{"y":3},"list":[1]})");
  EXPECT_EQ(parts("7", {""}, rest), Found{});
  EXPECT_EQ(rest, 7);
}

TEST(JsonInParts, IsAsStrictAsTheOther) {
  Json rest;
  const auto refused = [&](const std::string& text) { return message_of([&] { parts(text, {"/m"}, rest); }); };
  EXPECT_TRUE(contains(refused(R"({"m": {"a": {"b": 1, "b": 2}}})"), "\"b\" stands twice"));
  EXPECT_TRUE(contains(refused(R"({"m": {}, "m": {}})"), "\"m\" stands twice"));
  EXPECT_TRUE(contains(refused(R"({"m": {"a": )" + nested(70) + "}}"), "nested deeper"));
  EXPECT_TRUE(contains(refused(R"({"m": {"a": 1,}})"), "not valid JSON at byte"));
  std::string many = "0";
  for (int i = 0; i < 1000; ++i) many += ",0";
  EXPECT_TRUE(contains(refused(R"({"m": {"a": [)" + many + "]}}"), "a member of /m holds more than 1000 values"));
  EXPECT_EQ(refused(R"({"other": {"a": [)" + many + "]}}"), "");
}

TEST(JsonView, WalksIntoADocument) {
  const Json document = parse_json(R"({"list": [{"n": 1}, {"n": "x"}], "object": {"a": 1.5, "b": null}})", "a.json");
  const JsonView view(document, "a.json");
  EXPECT_EQ(view.child("list").items()[0].integer("n"), 1u);
  EXPECT_EQ(message_of([&] { view.child("list").items()[1].integer("n"); }),
            "a.json: /list/1/n: expected a whole number from 0 to 9223372036854775807, found \"x\"");
  EXPECT_EQ(message_of([&] { view.child("list").child("n"); }),
            "a.json: /list: expected a JSON object that holds \"n\", found [{\"n\":1},{\"n\":\"x\"}]");
  EXPECT_EQ(message_of([&] { view.child("object").items(); }), "a.json: /object: expected an array, found {\"a\":1.5,\"b\":null}");
  EXPECT_EQ(view.child("object").members().size(), 2u);
  EXPECT_EQ(view.child("object").members()[0].second.number(0, 2), 1.5);
  EXPECT_FALSE(view.child("object").optional_child("b") || view.optional_child("c"));
  EXPECT_FALSE(view.optional_number("c", 0, 1) || view.optional_boolean("c"));
  EXPECT_EQ(message_of([&] { view.child("object").boolean("a"); }), "a.json: /object/a: expected true or false, found 1.5");
  const JsonDocument copy = JsonDocument(document);
  EXPECT_EQ(copy, JsonDocument(document));
  EXPECT_TRUE(JsonDocument()->is_null());
}

class JsonFields : public testing::Test {
 protected:
  const Json object_ = parse_json(R"({"name": "x", "rows": 16, "negative": -1, "half": 0.5, "big": 18446744073709551615,
                                      "flag": true, "nothing": null})",
                                  "a.json");
  const JsonView view_{object_, "a.json"};
  uint64_t integer(const char* key, uint64_t least = 0, uint64_t most = kLargestJsonInteger) const {
    return view_.integer(key, least, most);
  }
};

TEST_F(JsonFields, Strings) {
  EXPECT_EQ(view_.text("name"), "x");
  EXPECT_EQ(message_of([&] { view_.text("rows"); }), "a.json: /rows: expected a string, found 16");
  EXPECT_EQ(message_of([&] { view_.text("nobody"); }), "a.json: the field \"nobody\" is missing");
  EXPECT_EQ(view_.optional_text("nothing"), std::nullopt);
  EXPECT_EQ(view_.optional_text("nobody"), std::nullopt);
  EXPECT_NE(message_of([&] { view_.optional_text("rows"); }), "");
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
  EXPECT_EQ(view_.optional_integer("nothing"), std::nullopt);
  EXPECT_EQ(view_.optional_integer("rows"), 16u);
}

TEST_F(JsonFields, Booleans) {
  EXPECT_TRUE(view_.boolean_or("flag", false));
  EXPECT_TRUE(view_.boolean_or("nobody", true));
  EXPECT_FALSE(view_.boolean_or("nothing", false));
  EXPECT_EQ(message_of([&] { view_.boolean_or("rows", false); }), "a.json: /rows: expected true or false, found 16");
}

TEST_F(JsonFields, OfSomethingThatIsNoObject) {
  EXPECT_NE(message_of([&] { JsonView(Json::array(), "a.json").child("a").json(); }), "");
  EXPECT_NE(message_of([&] { JsonView(Json("text"), "a.json").text("a"); }), "");
}

TEST_F(JsonFields, ErrorShowsOnlyTheStartOfALargeValue) {
  const Json large = {{"name", Json::array_t(100000, 1)}};
  EXPECT_LT(message_of([&] { JsonView(large, "a.json").text("name"); }).size(), 200u);
}

}  // namespace
}  // namespace tritllm
