#include <gtest/gtest.h>

#include <chrono>

#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

namespace tritllm {
namespace {

// The words of a text, each in brackets.
std::string words(const Json& pre_tokenizer, std::string_view text, bool begins_text = true) {
  MatchScratch scratch(text.size());
  std::string result;
  PreTokenizer::parse({pre_tokenizer, "here"}).cut(text, begins_text, scratch, [&](std::string_view word) {
    result.append("[").append(word).append("]");
  });
  return result;
}

std::string normalized(const Json& normalizer, std::string_view text) {
  MatchScratch scratch(text.size());
  return Normalizer::parse({normalizer, "here"}).apply(text, false, scratch).text;
}

TEST(PreTokenizer, SplitsDoAsTheirBehaviorSays) {
  constexpr std::string_view kText = "-the-final--countdown-";
  EXPECT_EQ(words(split("-", "Removed"), kText), "[the][final][countdown]");
  EXPECT_EQ(words(split("-", "Isolated"), kText), "[-][the][-][final][-][-][countdown][-]");
  EXPECT_EQ(words(split("-", "MergedWithPrevious"), kText), "[-][the-][final-][-][countdown-]");
  EXPECT_EQ(words(split("-", "MergedWithNext"), kText), "[-the][-final][-][-countdown][-]");
  EXPECT_EQ(words(split("-", "Contiguous"), kText), "[-][the][-][final][--][countdown][-]");
  EXPECT_EQ(words(split("-", "Removed", true), kText), "[-][-][-][-][-]");
  EXPECT_EQ(words(nullptr, kText), "[-the-final--countdown-]");
}

TEST(PreTokenizer, StepsFollowEachOther) {
  const Json digits = part("Digits", {{"individual_digits", true}});
  const Json bytes = part("ByteLevel", {{"add_prefix_space", false}, {"use_regex", true}});
  EXPECT_EQ(words(sequence("pretokenizers", {digits, bytes}), "a 12 \u0663b"), "[a][\u0120][1][2][\u0120][\u00d9\u00a3][b]");
  EXPECT_EQ(words(part("Digits", {{"individual_digits", false}}), "a12\u00bdb"), "[a][12\u00bd][b]");
  EXPECT_EQ(words(part("ByteLevel", {{"add_prefix_space", true}, {"use_regex", false}}), "a b"), "[\u0120a\u0120b]");
}

TEST(PreTokenizer, MetaspacePrependsAsItsSchemeSays) {
  const auto metaspace = [](const char* scheme, bool cuts) {
    return part("Metaspace", {{"replacement", "_"}, {"prepend_scheme", scheme}, {"split", cuts}});
  };
  EXPECT_EQ(words(metaspace("always", true), "a b", false), "[_a][_b]");
  EXPECT_EQ(words(metaspace("first", true), "a b", false), "[a][_b]");
  EXPECT_EQ(words(metaspace("first", true), "a b", true), "[_a][_b]");
  const Json behind_split = sequence("pretokenizers", {split("b"), metaspace("first", true)});
  EXPECT_EQ(words(behind_split, "abc"), "[_a][b][c]");
  EXPECT_EQ(words(metaspace("never", false), "a b", true), "[a_b]");
  EXPECT_EQ(words(metaspace("always", true), " a"), "[_a]");
}

TEST(Normalizer, StepsFollowEachOther) {
  EXPECT_EQ(normalized(nullptr, "e\u0301"), "e\u0301");
  EXPECT_EQ(normalized(part("NFC"), "abe\u0301c\u0327\u0301!"), "ab\u00e9\u1e09!");
  EXPECT_EQ(normalized(part("NFKD"), "\ufb01\u00e9"), "fie\u0301");
  const Json prepend = part("Prepend", {{"prepend", "_"}});
  EXPECT_EQ(normalized(sequence("normalizers", {prepend, replace(" ", "_")}), "a b"), "_a_b");
  EXPECT_EQ(normalized(prepend, ""), "");
  EXPECT_EQ(normalized(part("Strip", {{"strip_left", true}, {"strip_right", false}}), "\u3000 a "), "a ");
  EXPECT_EQ(normalized(part("Strip", {{"strip_left", true}, {"strip_right", true}}), " \n"), "");
}

double seconds_to_compose(size_t marks) {
  std::string text = "a";
  for (size_t i = 0; i < marks; ++i) text += "\u0301\u0323";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(to_unicode_form(text, UnicodeForm::kNfc).substr(0, 3), "\u1ea1");
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(UnicodeForms, MarksInTheWorstOrderAreNotSortedInQuadraticTime) {
  EXPECT_LT(seconds_to_compose(500'000), 5.0);  // 0.2 s; swapping neighbours would take an hour
}

TEST(UnicodeForms, OrderOfMarksIsStable) {
  EXPECT_EQ(to_unicode_form("x\u0301\u0300\u0323\u0331", UnicodeForm::kNfd), "x\u0323\u0331\u0301\u0300");
  EXPECT_EQ(to_unicode_form("\uac01", UnicodeForm::kNfd), "\u1100\u1161\u11a8");
  EXPECT_EQ(to_unicode_form("\u1100\u1161\u11a8", UnicodeForm::kNfc), "\uac01");
  EXPECT_EQ(to_unicode_form("\u0958\u2126\u0344", UnicodeForm::kNfc), "\u0915\u093c\u03a9\u0308\u0301");
}

}  // namespace
}  // namespace tritllm
