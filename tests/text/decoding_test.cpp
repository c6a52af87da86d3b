#include <gtest/gtest.h>

#include "text/token_decoder.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace tritllm {
namespace {

// What a decoder makes of tokens, in the pieces in which it becomes certain.
std::vector<std::string> pieces(const Json& decoder, const std::vector<std::string>& tokens) {
  Json model = {{"type", "BPE"}, {"vocab", Json::object()}, {"merges", Json::array()}};
  for (const std::string& token : tokens) {
    if (!model["vocab"].contains(token)) model["vocab"][token] = model["vocab"].size();
  }
  Json document = tokenizer_document(model);
  document["decoder"] = decoder;
  const Tokenizer tokenizer = tokenizer_of(document);
  StreamDecoder stream(tokenizer, false);
  std::vector<std::string> result;
  std::string all;
  std::vector<TokenId> ids;
  for (const std::string& token : tokens) {
    ids.push_back(*tokenizer.token_id(token));
    all += result.emplace_back(stream.push(ids.back()));
  }
  all += result.emplace_back(stream.finish());
  EXPECT_EQ(tokenizer.decode(ids, false), all);
  return result;
}

using Pieces = std::vector<std::string>;

TEST(Decoding, ByteLevelHoldsBackHalfCharactersOnly) {
  EXPECT_EQ(pieces(part("ByteLevel"), {"\u0120a", "\u00f0\u0141", "\u013b\u0124b", "\u00e2"}),
            (Pieces{" a", "", "\U0001f642b", "", "\ufffd"}));
  // A character that means no byte: the token unchanged.
  EXPECT_EQ(pieces(part("ByteLevel"), {"\u6587", "\u0120"}), (Pieces{"\u6587", " ", ""}));
  EXPECT_EQ(pieces(part("ByteLevel"), {"\u00e2a"}), (Pieces{"\ufffda", ""}));
}

TEST(Decoding, ARunOfByteTokensIsTextAsAWholeOrNotAtAll) {
  const Json decoder = part("ByteFallback");
  EXPECT_EQ(pieces(decoder, {"<0xE2>", "<0x96>", "<0x81>", "a"}), (Pieces{"", "", "", "\u2581a", ""}));
  EXPECT_EQ(pieces(decoder, {"<0xE2>", "<0x96>", "a"}), (Pieces{"", "", "\ufffd\ufffda", ""}));
  EXPECT_EQ(pieces(decoder, {"<0x41>", "<0xFF>"}), (Pieces{"", "", "\ufffd\ufffd"}));
  EXPECT_EQ(pieces(decoder, {"<0x4g>", "<0x41", "<0x4a>"}), (Pieces{"<0x4g>", "<0x41", "", "J"}));
}

TEST(Decoding, StripTakesSpacesOffTheWholeTextBehindFuse) {
  const Json strip = part("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}});
  const Json decoder = sequence("decoders", {replace("\u2581", " "), part("Fuse"), strip});
  EXPECT_EQ(pieces(decoder, {"\u2581\u2581a", "\u2581b"}), (Pieces{" a", " b", ""}));
  EXPECT_EQ(pieces(decoder, {"\u2581", "\u2581", "b"}), (Pieces{"", " ", "b", ""}));
  EXPECT_EQ(pieces(strip, {" a", "  b"}), (Pieces{"a", " b", ""}));
  const Json both = part("Strip", {{"content", " "}, {"start", 1}, {"stop", 2}});
  EXPECT_EQ(pieces(both, {"  a   ", " "}), (Pieces{" a ", "", ""}));
}

TEST(Decoding, MetaspaceDropsTheMarksOfTheFirstToken) {
  const auto metaspace = [](const char* scheme) {
    return part("Metaspace", {{"replacement", "\u2581"}, {"prepend_scheme", scheme}, {"split", true}});
  };
  EXPECT_EQ(pieces(metaspace("always"), {"\u2581a\u2581", "\u2581b"}), (Pieces{"a", " b", ""}));
  EXPECT_EQ(pieces(metaspace("never"), {"\u2581a", "\u2581b"}), (Pieces{" a", " b", ""}));
}

TEST(Decoding, WithoutADecoderTokensStandApart) { EXPECT_EQ(pieces(nullptr, {"a", "b"}), (Pieces{"a", " b", ""})); }

TEST(Decoding, LongPatternsAreFoundAcrossFragments) {
  const Json decoder = sequence("decoders", {part("Fuse"), replace("ab", "-")});
  std::string all;
  for (const std::string& piece : pieces(decoder, {"xa", "b", "ay"})) all += piece;
  EXPECT_EQ(all, "x-ay");
}

TEST(Decoding, TokenBytesAreThoseWithinAText) {
  Json model = {{"type", "BPE"}, {"vocab", {{"\u2581a", 0}, {"<0xE2>", 1}, {"\u0120\u00e2", 2}}}, {"merges", Json::array()}};
  Json document = tokenizer_document(model);
  document["decoder"] = sequence("decoders", {replace("\u2581", " "), part("ByteFallback"), part("Fuse")});
  EXPECT_EQ(tokenizer_of(document).token_bytes(0), " a");
  EXPECT_EQ(tokenizer_of(document).token_bytes(1), "\xe2");
  EXPECT_EQ(tokenizer_of(document).token_bytes(9), "");
  document["decoder"] = part("ByteLevel");
  EXPECT_EQ(tokenizer_of(document).token_bytes(2), " \xe2");
}

// Each part that cannot be text is one U+FFFD, as in the examples of the Unicode Standard (chapter 3, tables 3-8 to 3-11).
TEST(Utf8Repair, ReplacesMaximalSubparts) {
  const std::vector<std::pair<std::string, std::string>> cases{{"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82"
                                                                "A",
                                                                "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA"},
                                                               {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf"
                                                                "A",
                                                                "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA"},
                                                               {"\xf4\x91\x92\x93\xff"
                                                                "A\x80\xbf"
                                                                "B",
                                                                "\ufffd\ufffd\ufffd\ufffd\ufffdA\ufffd\ufffdB"},
                                                               {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf"
                                                                "A",
                                                                "\ufffd\ufffd\ufffd\ufffdA"},
                                                               {"a\xf0\x9f\x99", "a\ufffd"}};
  for (const auto& [bytes, expected] : cases) {
    for (size_t step = 1; step <= bytes.size(); ++step) {
      Utf8Repair repair;
      std::string out;
      for (size_t at = 0; at < bytes.size(); at += step) repair.push(std::string_view(bytes).substr(at, step), out);
      repair.finish(out);
      EXPECT_EQ(out, expected) << "in steps of " << step;
    }
  }
}

}  // namespace
}  // namespace tritllm
