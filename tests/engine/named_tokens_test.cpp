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

std::optional<JsonDocument> completed(std::vector<SideFile> files) {
  files.push_back({"tokenizer.json", tokenizer_document().dump()});
  return completed_added_tokens(files, "MODEL");
}

Tokenizer tokenizer_of(const std::vector<SideFile>& files) {
  const JsonDocument added_tokens = completed(files).value();
  return Tokenizer::parse(tokenizer_document().dump(), "MODEL", &*added_tokens);
}

TEST(CompletedAddedTokens, IsLeftAloneWhereNothingIsMissing) {
  EXPECT_FALSE(completed_added_tokens({}, "MODEL"));
  EXPECT_FALSE(completed({}));
  EXPECT_FALSE(completed({{"tokenizer_config.json", R"({"eos_token": "<end>", "pad_token": null, "add_bos_token": true})"}}));
  EXPECT_FALSE(completed({{"tokenizer_config.json", R"({"added_tokens_decoder": {"3": {"content": "<end>", "special": true}}})"}}));
  EXPECT_FALSE(completed({{"added_tokens.json", R"({"<end>": 3})"}, {"special_tokens_map.json", R"({"eos_token": "<end>"})"}}));
}

TEST(CompletedAddedTokens, HasTheTokensOfEveryPlace) {
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

TEST(CompletedAddedTokens, NumbersThemInOrder) {
  const Tokenizer tokenizer = tokenizer_of({{"tokenizer_config.json", R"({"added_tokens_decoder": {
      "10": {"content": "<x>", "special": true}, "9": {"content": "<y>", "special": true}, "2": {"content": "c", "special": true}},
      "pad_token": "<z>"})"}});
  EXPECT_EQ(tokenizer.token_id("<y>"), 4u);
  EXPECT_EQ(tokenizer.token_id("<x>"), 5u);
  EXPECT_EQ(tokenizer.token_id("<z>"), 6u);
  EXPECT_EQ(tokenizer.token_id("c"), 2u) << "a token of the vocabulary keeps its id";
  EXPECT_TRUE(tokenizer.is_special(2));
}

TEST(CompletedAddedTokens, AnotherDescriptionReplacesTheTokenizers) {
  const Tokenizer tokenizer = tokenizer_of(
      {{"tokenizer_config.json", R"({"added_tokens_decoder": {"3": {"content": "<end>", "special": false, "lstrip": true}}})"}});
  EXPECT_FALSE(tokenizer.is_special(3));
  EXPECT_EQ(tokenizer.encode("a <end>"), (std::vector<TokenId>{0, 3}));
}

TEST(CompletedAddedTokens, BadDescriptionsAreRefusedWithTheirPlace) {
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

TEST(CompletedAddedTokens, ABadTokenizerIsLeftToItsParser) {
  const SideFile settings{"tokenizer_config.json", R"({"eos_token": "<turn>"})"};
  for (const char* const bad :
       {"", "{", "[]", R"({"added_tokens": 3})", R"({"added_tokens": [3]})", R"({"added_tokens": [{"id": "x", "content": "a"}]})",
        R"({"added_tokens": []})", R"({"added_tokens": [], "model": 3})"}) {
    EXPECT_FALSE(completed_added_tokens({settings, {"tokenizer.json", bad}}, "MODEL")) << bad;
  }
}

}  // namespace
}  // namespace tritllm
