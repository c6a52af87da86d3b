// Owns the cases of engine/named_tokens.h. The ids of added tokens are compared with AutoTokenizer's in
// tests/cli/test_model_folders.py.
#include "engine/named_tokens.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/json.h"
#include "support/expect_error.h"
#include "text/tokenizer.h"

namespace tritllm {
namespace {

std::string bos(const std::string& tokenizer_config) {
  return special_token_text({{"tokenizer_config.json", tokenizer_config}}, "bos_token", "MODEL");
}

TEST(SpecialTokens, AsStringsAndAsObjects) {
  EXPECT_EQ(bos(R"({"bos_token": "<s>"})"), "<s>");
  EXPECT_EQ(bos(R"({"bos_token": {"__type": "AddedToken", "content": "<|begin|>", "lstrip": false}})"), "<|begin|>");
  EXPECT_EQ(bos(R"({"bos_token": null})"), "");
  EXPECT_EQ(bos(R"({"eos_token": "</s>"})"), "");
  EXPECT_EQ(special_token_text({}, "bos_token", "MODEL"), "");
  for (const char* const bad :
       {R"({"bos_token": 1})", R"({"bos_token": ["<s>"]})", R"({"bos_token": {}})", R"({"bos_token": {"content": 3}})", "[]"}) {
    expect_error(ErrorCode::kBadInput, "MODEL: tokenizer_config.json", [&] { bos(bad); });
  }
}

TEST(SpecialTokens, OlderFoldersNameThemInAMap) {
  const SideFile settings{"tokenizer_config.json", R"({"bos_token": "<old>"})"},
      newer{"tokenizer_config.json", R"({"bos_token": "<new>", "added_tokens_decoder": {}})"},
      map{"special_tokens_map.json", R"({"bos_token": {"content": "<s>"}})"};
  EXPECT_EQ(special_token_text({map}, "bos_token", "MODEL"), "<s>");
  EXPECT_EQ(special_token_text({settings, map}, "bos_token", "MODEL"), "<s>");
  EXPECT_EQ(special_token_text({newer, map}, "bos_token", "MODEL"), "<new>");
}

Json tokenizer_document() {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", Json::array({{{"id", 3}, {"content", "<end>"}, {"special", true}, {"normalized", false}}})},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}}}, {"merges", Json::array()}}}};
}

std::optional<std::string> completed(std::vector<SideFile> files) {
  files.push_back({"tokenizer.json", tokenizer_document().dump()});
  return completed_tokenizer(files, "MODEL");
}

Tokenizer tokenizer_of(const std::vector<SideFile>& files) { return Tokenizer::parse(completed(files).value(), "MODEL"); }

TEST(CompletedTokenizer, IsLeftAloneWhereNothingIsMissing) {
  EXPECT_FALSE(completed_tokenizer({}, "MODEL"));
  EXPECT_FALSE(completed({}));
  EXPECT_FALSE(completed({{"tokenizer_config.json", R"({"eos_token": "<end>", "pad_token": null, "add_bos_token": true})"}}));
  EXPECT_FALSE(completed({{"tokenizer_config.json", R"({"added_tokens_decoder": {"3": {"content": "<end>", "special": true}}})"}}));
  EXPECT_FALSE(completed({{"added_tokens.json", R"({"<end>": 3})"}, {"special_tokens_map.json", R"({"eos_token": "<end>"})"}}));
}

// The list is put into the text of tokenizer.json, wherever it stands there and whatever looks like it.
TEST(CompletedTokenizer, FindsTheListInAnyDocument) {
  const std::vector<SideFile> files{{"tokenizer_config.json", R"({"eos_token": "<turn>"})"}};
  const auto completed_from = [&](const std::string& text) {
    std::vector<SideFile> all = files;
    all.push_back({"tokenizer.json", text});
    return parse_json(completed_tokenizer(all, "MODEL").value(), "completed");
  };
  const std::string list = R"([{"id": 3, "content": "<e\"nd,}]>", "special": true}])";
  const std::string vocabulary = R"({"type": "BPE", "vocab": {"added_tokens": 0, "\"added_tokens\"": 1, "}": 2}, "merges": []})";
  const std::vector<std::string> documents{
      R"({"added_tokens":)" + list + R"(,"model":)" + vocabulary + "}",
      R"( { "x" : "added_tokens" , "y":[ "added_tokens" , {"added_tokens":[]} ], "model" :)" + vocabulary +
          R"(, "added_tokens" :)" + list + " }\n",
      R"({"x":{"added_tokens":[1]},"z":"\\","added_tokens":)" + list + R"(,"w":"\"","model":)" + vocabulary + "}"};
  for (const std::string& text : documents) {
    Json expected = parse_json(text, "given"), found = completed_from(text);
    ASSERT_EQ(found.at("added_tokens").size(), 2u) << text;
    EXPECT_EQ(found.at("added_tokens")[0], expected.at("added_tokens")[0]);
    EXPECT_EQ(found.at("added_tokens")[1].at("content"), "<turn>");
    EXPECT_EQ(found.at("added_tokens")[1].at("id"), 4);
    expected.erase("added_tokens");
    found.erase("added_tokens");
    EXPECT_EQ(found, expected);
  }
  const Json without = completed_from(R"({"model":)" + vocabulary + "}");
  EXPECT_EQ(without.at("added_tokens")[0].at("id"), 3);
}

TEST(CompletedTokenizer, HasTheTokensOfEveryPlace) {
  for (const std::vector<SideFile>& files : std::vector<std::vector<SideFile>>{
           {{"tokenizer_config.json", R"({"added_tokens_decoder": {"4": {"content": "<turn>", "special": true}}})"}},
           {{"tokenizer_config.json", R"({"eos_token": "<turn>"})"}},
           {{"tokenizer_config.json", R"({"image_token": {"content": "<turn>"}})"}},
           {{"tokenizer_config.json", R"({"additional_special_tokens": ["<end>", "<turn>"]})"}},
           {{"tokenizer_config.json", R"({"extra_special_tokens": {"image": "<turn>"}})"}},
           {{"special_tokens_map.json", R"({"eos_token": "<turn>"})"}},
           {{"added_tokens.json", R"({"<turn>": 4})"}, {"special_tokens_map.json", R"({"eos_token": "<turn>"})"}}}) {
    const Tokenizer tokenizer = tokenizer_of(files);
    EXPECT_EQ(tokenizer.encode("a<turn>b"), (std::vector<TokenId>{0, 4, 1})) << files[0].contents;
    EXPECT_TRUE(tokenizer.is_special(4)) << files[0].contents;
  }
  const Tokenizer plain = tokenizer_of({{"added_tokens.json", R"({"<turn>": 4})"}});
  EXPECT_EQ(plain.encode("a<turn>b"), (std::vector<TokenId>{0, 4, 1}));
  EXPECT_FALSE(plain.is_special(4));
}

TEST(CompletedTokenizer, NumbersThemInOrder) {
  const Tokenizer tokenizer = tokenizer_of({{"tokenizer_config.json", R"({"added_tokens_decoder": {
      "10": {"content": "<x>", "special": true}, "9": {"content": "<y>", "special": true}, "2": {"content": "c", "special": true}},
      "pad_token": "<z>"})"}});
  EXPECT_EQ(tokenizer.token_id("<y>"), 4u);
  EXPECT_EQ(tokenizer.token_id("<x>"), 5u);
  EXPECT_EQ(tokenizer.token_id("<z>"), 6u);
  EXPECT_EQ(tokenizer.token_id("c"), 2u) << "a token of the vocabulary keeps its id";
  EXPECT_TRUE(tokenizer.is_special(2));
}

TEST(CompletedTokenizer, AnotherDescriptionReplacesTheTokenizers) {
  const Tokenizer tokenizer = tokenizer_of(
      {{"tokenizer_config.json", R"({"added_tokens_decoder": {"3": {"content": "<end>", "special": false, "lstrip": true}}})"}});
  EXPECT_FALSE(tokenizer.is_special(3));
  EXPECT_EQ(tokenizer.encode("a <end>"), (std::vector<TokenId>{0, 3}));
}

TEST(CompletedTokenizer, BadDescriptionsAreRefusedWithTheirPlace) {
  for (const char* const bad :
       {R"({"added_tokens_decoder": []})", R"({"added_tokens_decoder": {"x": {"content": "t"}}})",
        R"({"added_tokens_decoder": {"1": "t"}})", R"({"added_tokens_decoder": {"1": {"content": 1}}})",
        R"({"added_tokens_decoder": {"1": {"content": "t", "special": 1}}})", R"({"eos_token": {"content": 1}})",
        R"({"additional_special_tokens": "x"})", R"({"extra_special_tokens": [1]})", "[]", "{"}) {
    expect_error(ErrorCode::kBadInput, "MODEL: tokenizer_config.json", [&] { completed({{"tokenizer_config.json", bad}}); });
  }
  for (const char* const bad : {R"({"t": "1"})", R"({"t": -1})", "[]", "{"}) {
    expect_error(ErrorCode::kBadInput, "MODEL: added_tokens.json", [&] { completed({{"added_tokens.json", bad}}); });
  }
}

TEST(CompletedTokenizer, ABadTokenizerIsLeftToItsParser) {
  const SideFile settings{"tokenizer_config.json", R"({"eos_token": "<turn>"})"};
  for (const char* const bad :
       {"", "{", "[]", R"({"added_tokens": 3})", R"({"added_tokens": [3]})", R"({"added_tokens": [{"id": "x", "content": "a"}]})",
        R"({"added_tokens": []})", R"({"added_tokens": [], "model": 3})"}) {
    EXPECT_FALSE(completed_tokenizer({settings, {"tokenizer.json", bad}}, "MODEL")) << bad;
  }
}

}  // namespace
}  // namespace tritllm
