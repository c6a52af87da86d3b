#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <thread>

#include "support/expect_error.h"
#include "text/tokenizer_json.h"

namespace tritllm {
namespace {

using Contents = std::vector<std::string>;

Json document_with(std::string_view key, Json value) {
  Json document = tokenizer_document();
  document[std::string(key)] = std::move(value);
  return document;
}

void expect_refused(const Json& document, std::string_view words, ErrorCode code = ErrorCode::kUnsupported) {
  expect_error(code, words, [&] { tokenizer_of(document); });
}

TEST(Tokenizer, MergesTheLowestRankFirstAndTheLeftmostOfEquals) {
  const Tokenizer tokenizer = tokenizer_of(tokenizer_document());
  EXPECT_EQ(tokens_of(tokenizer, "thethin"), (Contents{"the", "th", "in"}));
  EXPECT_EQ(tokens_of(tokenizer, "ababc"), (Contents{"ab", "abc"}));
  EXPECT_EQ(tokens_of(tokenizer, ""), Contents{});
}

TEST(Tokenizer, UnknownCharactersFuseOnlyWhereTheFileSaysSo) {
  Json document = tokenizer_document();
  EXPECT_EQ(tokens_of(tokenizer_of(document), "a!?b"), (Contents{"a", "<unk>", "<unk>", "b"}));
  document["model"]["fuse_unk"] = true;
  EXPECT_EQ(tokens_of(tokenizer_of(document), "a!?b"), (Contents{"a", "<unk>", "b"}));
  document["model"]["unk_token"] = nullptr;
  EXPECT_EQ(tokens_of(tokenizer_of(document), "a!?b"), (Contents{"ab"}));
}

TEST(Tokenizer, AnUnknownTokenThatIsMissingIsAnErrorOnlyWhenItIsNeeded) {
  Json document = tokenizer_document();
  document["model"]["unk_token"] = "<none>";
  const Tokenizer tokenizer = tokenizer_of(document);
  EXPECT_EQ(tokens_of(tokenizer, "the"), (Contents{"the"}));
  expect_error(ErrorCode::kBadInput, "/model/unk_token", [&] { tokenizer.encode("!"); });
}

TEST(Tokenizer, TextThatIsNotUtf8IsRefusedWithItsPlace) {
  const Tokenizer tokenizer = tokenizer_of(tokenizer_document());
  expect_error(ErrorCode::kBadInput, "text: byte 2: expected valid UTF-8, found 0xFF", [&] { tokenizer.encode("ab\xff"); });
  expect_error(ErrorCode::kBadInput, "text: byte 1", [&] { tokenizer.encode("a\xe2\x96"); });
  expect_error(ErrorCode::kBadInput, "text: byte 0", [&] { tokenizer.encode("\xed\xa0\x80"); });
}

TEST(Tokenizer, KnowsItsTokens) {
  Json document =
      document_with("added_tokens", Json::array({added_token(36, "<end>"), added_token(37, "<tool>", {{"special", false}})}));
  const Tokenizer tokenizer = tokenizer_of(document);
  EXPECT_EQ(tokenizer.vocabulary_size(), 38u);
  EXPECT_EQ(tokenizer.token_id("<end>"), 36u);
  EXPECT_EQ(tokenizer.token_id("the"), 30u);
  EXPECT_EQ(tokenizer.token_id("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer.token_content(37), "<tool>");
  EXPECT_EQ(tokenizer.token_content(38), "");
  EXPECT_TRUE(tokenizer.is_special(36));
  EXPECT_FALSE(tokenizer.is_special(37));
  EXPECT_FALSE(tokenizer.is_special(0));
  EXPECT_TRUE(tokenizer.is_known(37));
  EXPECT_FALSE(tokenizer.is_known(38));
  EXPECT_EQ(tokenizer.decode(std::vector<TokenId>{30, 36, 99, 37}, true), "the<tool>");
  EXPECT_EQ(tokenizer.decode(std::vector<TokenId>{30, 36, 99, 37}, false), "the<end><tool>");
}

TEST(Tokenizer, TheTemplatePutsTokensAroundAText) {
  Json document = document_with("added_tokens", Json::array({added_token(36, "<s>"), added_token(37, "</s>")}));
  document["post_processor"] =
      part("TemplateProcessing", {{"single", Json::array({{{"SpecialToken", {{"id", "B"}, {"type_id", 0}}}},
                                                          {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                                                          {{"SpecialToken", {{"id", "E"}, {"type_id", 0}}}}})},
                                  {"pair", Json::array()},
                                  {"special_tokens",
                                   {{"B", {{"id", "B"}, {"ids", {36, 36}}, {"tokens", {"x", "y"}}}},
                                    {"E", {{"id", "E"}, {"ids", {37}}, {"tokens", {"z"}}}}}}});
  const Tokenizer tokenizer = tokenizer_of(document);
  EXPECT_EQ(tokens_of(tokenizer, "in"), (Contents{"<s>", "<s>", "in", "</s>"}));
  EXPECT_EQ(tokens_of(tokenizer, "in", {.add_special = false}), (Contents{"in"}));
  EXPECT_EQ(tokenizer.prefix_tokens(), (std::vector<TokenId>{36, 36}));

  document["post_processor"]["special_tokens"]["B"]["ids"] = {99};
  expect_refused(document, "/post_processor/special_tokens/B/ids: expected the id of a token", ErrorCode::kBadInput);
  document["post_processor"]["special_tokens"].erase("B");
  expect_refused(document, "/post_processor/special_tokens", ErrorCode::kBadInput);
}

TEST(Tokenizer, ThreadsShareOne) {
  const Tokenizer tokenizer = tokenizer_of(document_with("pre_tokenizer", split(R"(\s+)")));
  const std::vector<TokenId> expected = tokenizer.encode("the abc in the abc");
  std::vector<std::vector<TokenId>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) ids = tokenizer.encode("the abc in the abc");
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& ids : found) EXPECT_EQ(ids, expected);
}

TEST(TokenizerFile, WhatIsNotSupportedIsRefusedByName) {
  const Json unigram_vocabulary = Json::array({Json::array({"<unk>", 0.0}), Json::array({"a", -2.5})});
  for (const Json& model : {Json{{"type", "Unigram"}, {"vocab", Json::array()}},
                            Json{{"type", "Unigram"}, {"unk_id", 0}, {"vocab", unigram_vocabulary}},
                            Json{{"unk_id", 0}, {"vocab", unigram_vocabulary}}}) {
    expect_refused(document_with("model", model), "/model: found the model \"Unigram\"");
  }
  expect_refused(document_with("model", {{"type", "WordPiece"}, {"vocab", {{"a", 0}}}}), "/model: found the model \"WordPiece\"");
  expect_refused(document_with("normalizer", part("Lowercase")), "/normalizer: found the normalizer \"Lowercase\"");
  expect_refused(document_with("normalizer", sequence("normalizers", {part("NFC"), part("Nmt")})), "/normalizer/normalizers/1");
  expect_refused(document_with("pre_tokenizer", part("Whitespace")), "the pre-tokenizer \"Whitespace\"");
  expect_refused(document_with("pre_tokenizer", split("a", "Sideways")), "the behavior \"Sideways\"");
  expect_refused(document_with("post_processor", part("RobertaProcessing")), "the post-processor \"RobertaProcessing\"");
  expect_refused(document_with("decoder", part("WordPiece")), "the decoder \"WordPiece\"");
  expect_refused(document_with("version", "2.0"), "the version \"2.0\"");
  expect_refused(document_with("steps", 3), "the unknown field \"steps\"");
  Json model = letters_model();
  model["dropout"] = 0.1;
  expect_refused(document_with("model", model), "/model/dropout");
  model = letters_model();
  model["continuing_subword_prefix"] = "##";
  expect_refused(document_with("model", model), "/model/continuing_subword_prefix: found \"##\"");
  model = letters_model();
  model["novelty"] = true;
  expect_refused(document_with("model", model), "the unknown field \"novelty\"");
}

TEST(TokenizerFile, TruncationAndPaddingDoNotMatter) {
  Json document = document_with("truncation", {{"max_length", 1}});
  document["padding"] = {{"strategy", "BatchLongest"}};
  EXPECT_EQ(tokenizer_of(document).encode("the in").size(), 3u);
}

TEST(TokenizerFile, IdsAreValidated) {
  for (const Json& bad : {Json(-1), Json(1.5), Json("7"), Json(1u << 20), Json(uint64_t{1} << 40), Json(nullptr)}) {
    Json document = tokenizer_document();
    document["model"]["vocab"]["zz"] = bad;
    expect_refused(document, "for token \"zz\" an id from 0 to 1048575", ErrorCode::kBadInput);
  }
  Json document = tokenizer_document();
  document["model"]["vocab"]["zz"] = 0;
  expect_refused(document, "the tokens \"a\" and \"zz\" have one id, 0", ErrorCode::kBadInput);
  document["model"]["vocab"]["zz"] = 70000;  // unused ids are allowed
  EXPECT_EQ(tokenizer_of(document).vocabulary_size(), 70001u);
  EXPECT_FALSE(tokenizer_of(document).is_known(69999));
}

TEST(TokenizerFile, AddedTokensHaveTheIdsThatHfWouldGiveThem) {
  expect_refused(document_with("added_tokens", Json::array({added_token(40, "<s>")})),
                 "expected the id 36 for the token \"<s>\", found 40", ErrorCode::kBadInput);
  expect_refused(document_with("added_tokens", Json::array({added_token(5, "the")})), "expected the id 30", ErrorCode::kBadInput);
  expect_refused(document_with("added_tokens", Json::array({added_token(36, "<s>"), added_token(36, "<s>")})), "added twice",
                 ErrorCode::kBadInput);
  EXPECT_EQ(
      tokenizer_of(document_with("added_tokens", Json::array({added_token(30, "the"), added_token(36, "<s>")}))).vocabulary_size(),
      37u);
}

TEST(TokenizerFile, MergesAreValidatedWithTheirIndex) {
  Json document = tokenizer_document();
  document["model"]["merges"].push_back("q");
  expect_refused(document, "/model/merges/7: expected two tokens", ErrorCode::kBadInput);
  document["model"]["merges"][7] = "q r s";
  expect_refused(document, "/model/merges/7: expected two tokens", ErrorCode::kBadInput);
  document["model"]["merges"][7] = Json::array({"q", "Q"});
  expect_refused(document, "/model/merges/7: the merge names \"Q\"", ErrorCode::kBadInput);
  document["model"]["merges"][7] = Json::array({"q", "r"});
  expect_refused(document, "/model/merges/7: the merge names \"qr\"", ErrorCode::kBadInput);
}

TEST(TokenizerFile, MergesMayBePairs) {
  Json document = tokenizer_document();
  document["model"]["merges"] = Json::array({Json::array({"t", "h"}), Json::array({"th", "e"})});
  EXPECT_EQ(tokens_of(tokenizer_of(document), "the"), (Contents{"the"}));
}

TEST(TokenizerFile, PartsOfTheWrongShapeAreRefused) {
  expect_refused(document_with("model", 3), "/model: expected a JSON object", ErrorCode::kBadInput);
  expect_refused(document_with("normalizer", 3), "/normalizer", ErrorCode::kBadInput);
  expect_refused(document_with("normalizer", sequence("normalizers", {Json(1)})), "/normalizer/normalizers/0",
                 ErrorCode::kBadInput);
  expect_refused(document_with("added_tokens", {{"a", 1}}), "/added_tokens", ErrorCode::kBadInput);
  expect_refused(document_with("decoder", part("Strip", {{"content", "ab"}, {"start", 1}, {"stop", 0}})), "one character",
                 ErrorCode::kBadInput);
  expect_refused(document_with("pre_tokenizer", part("Metaspace", {{"replacement", ""}})), "one character", ErrorCode::kBadInput);
  expect_refused(document_with("normalizer", replace("", "x")), "a pattern string of 0 bytes");
}

}  // namespace
}  // namespace tritllm
