#include "text/added_tokens.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "text/tokenizer_json.h"

namespace tritllm {
namespace {

using Contents = std::vector<std::string>;

Tokenizer tokenizer_with(std::vector<Json> added, Json normalizer = nullptr) {
  Json document = tokenizer_document();
  document["added_tokens"] = added;
  document["normalizer"] = std::move(normalizer);
  return tokenizer_of(document);
}

TEST(AddedTokens, OfSeveralAtOnePlaceTheLongestCounts) {
  const Tokenizer tokenizer = tokenizer_with({added_token(36, "<e>"), added_token(37, "<e><f>"), added_token(38, "e>")});
  EXPECT_EQ(tokens_of(tokenizer, "a<e><f>a<e><"), (Contents{"a", "<e><f>", "a", "<e>", "<unk>"}));
}

TEST(AddedTokens, StripFlagsTakeWhiteSpaceWithThem) {
  const Tokenizer tokenizer = tokenizer_with(
      {added_token(36, "<l>", {{"lstrip", true}}), added_token(37, "<r>", {{"rstrip", true}}), added_token(38, "<n>")});
  EXPECT_EQ(tokens_of(tokenizer, "a \n <l> a"), (Contents{"a", "<l>", " ", "a"}));
  EXPECT_EQ(tokens_of(tokenizer, "a <r> \u3000a"), (Contents{"a", " ", "<r>", "a"}));
  EXPECT_EQ(tokens_of(tokenizer, " <n> "), (Contents{" ", "<n>", " "}));
}

TEST(AddedTokens, NeighboursShareTheWhiteSpaceBetweenThemAsInHfTokenizers) {
  const Json strips = {{"lstrip", true}, {"rstrip", true}};
  const Tokenizer tokenizer =
      tokenizer_with({added_token(36, "<r>", {{"rstrip", true}}), added_token(37, "\n\n", {{"lstrip", true}}),
                      added_token(38, "\n"), added_token(39, "  ", strips)});
  EXPECT_EQ(tokens_of(tokenizer, "<r>\n\na"), (Contents{"<r>", "a"}));
  EXPECT_EQ(tokens_of(tokenizer, "<r>\na"), (Contents{"<r>", "\n", "a"}));
  EXPECT_EQ(tokens_of(tokenizer, "    a"), (Contents{"  ", "a"}));
  EXPECT_EQ(tokens_of(tokenizer, "a \n\na"), (Contents{"a", "\n\n", "a"}));
}

TEST(AddedTokens, SingleWordsStandAlone) {
  const Tokenizer tokenizer = tokenizer_with({added_token(36, "cat", {{"single_word", true}})});
  EXPECT_EQ(tokens_of(tokenizer, "cat"), (Contents{"cat"}));
  EXPECT_EQ(tokens_of(tokenizer, "a cat-"), (Contents{"a", " ", "cat", "<unk>"}));
  EXPECT_EQ(tokens_of(tokenizer, "cats"), (Contents{"c", "a", "t", "s"}));
  EXPECT_EQ(tokens_of(tokenizer, "\u0436cat"), (Contents{"<unk>", "c", "a", "t"}));
}

TEST(AddedTokens, NormalizedTokensMatchNormalizedText) {
  const Tokenizer tokenizer =
      tokenizer_with({added_token(36, "x y", {{"normalized", true}}), added_token(37, "y z")}, replace(" ", "_"));
  EXPECT_EQ(tokens_of(tokenizer, "x y"), (Contents{"x y"}));
  EXPECT_EQ(tokens_of(tokenizer, "x_y"), (Contents{"x y"}));
  EXPECT_EQ(tokens_of(tokenizer, "y_z"), (Contents{"y", "<unk>", "z"}));
}

// User text may spell control tokens; it must neither make one nor break one that the template has.
TEST(AddedTokens, ControlTokensInLiteralTextAreText) {
  const Tokenizer tokenizer =
      tokenizer_with({added_token(36, "<e>"), added_token(37, "<e><f>"), added_token(38, "<t>", {{"special", false}})});
  const auto tokens = [&](std::string_view text, std::vector<TextSpan> literal) {
    return tokens_of(tokenizer, text, {.literal = literal});
  };
  const Contents spelled{"<unk>", "e", "<unk>"};
  EXPECT_EQ(tokens("<e>", {{0, 3}}), spelled);
  EXPECT_EQ(tokens("<e>", {{0, 1}}), spelled);
  EXPECT_EQ(tokens("<e>", {{2, 3}}), spelled);
  EXPECT_EQ(tokens("<e>", {{1, 1}}), (Contents{"<e>"}));
  EXPECT_EQ(tokens("a<e>a", {{0, 1}, {4, 5}}), (Contents{"a", "<e>", "a"}));
  // What follows would make a longer token of the template's.
  EXPECT_EQ(tokens("<e><f>", {{3, 6}}), (Contents{"<e>", "<unk>", "f", "<unk>"}));
  // Tokens without control stay tokens.
  EXPECT_EQ(tokens("<t>", {{0, 3}}), (Contents{"<t>"}));
  EXPECT_EQ(tokens_of(tokenizer, "<e><t>", {.parse_special = false}), (Contents{"<unk>", "e", "<unk>", "<t>"}));
}

TEST(AddedTokens, LiteralTextIsFollowedThroughTheNormalizer) {
  const Json normalizer = sequence("normalizers", {part("NFC"), replace("ab", "abcabc"), replace("  ", "")});
  const Tokenizer tokenizer = tokenizer_with({added_token(36, "<e>", {{"normalized", true}})}, normalizer);
  const std::string text = "e\u0301ab  <e>  <e>";
  const size_t second = text.rfind("<e>");
  EXPECT_EQ(tokens_of(tokenizer, text), (Contents{"<unk>", "abc", "abc", "<e>", "<e>"}));
  const std::vector<TextSpan> user{{0, second - 2}};
  EXPECT_EQ(tokens_of(tokenizer, text, {.literal = user}), (Contents{"<unk>", "abc", "abc", "<unk>", "e", "<unk>", "<e>"}));
}

TEST(AddedTokens, LiteralSpansAreValidated) {
  const Tokenizer tokenizer = tokenizer_with({});
  const auto encode = [&](std::vector<TextSpan> literal) { tokenizer.encode("abc", {.literal = literal}); };
  expect_error(ErrorCode::kUsage, "found [0, 4)", [&] { encode({{0, 4}}); });
  expect_error(ErrorCode::kUsage, "found [2, 1)", [&] { encode({{2, 1}}); });
  expect_error(ErrorCode::kUsage, "found [1, 3)", [&] { encode({{0, 2}, {1, 3}}); });
  EXPECT_NO_THROW(encode({{0, 2}, {2, 3}}));
}

TEST(AddedTokens, ARunOfWhiteSpaceIsWalkedOnce) {
  const Tokenizer tokenizer = tokenizer_with({added_token(36, "\n", {{"lstrip", true}, {"rstrip", true}})});
  EXPECT_EQ(tokenizer.encode(std::string(1 << 20, '\n')).size(), 1U);  // would take hours
}

}  // namespace
}  // namespace tritllm
