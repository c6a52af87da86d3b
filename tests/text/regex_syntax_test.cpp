#include "text/pattern.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace tritllm {
namespace {

std::string translated(std::string_view pattern) { return translate_regex(pattern, "here"); }

// The matches of a pattern in a text, with '|' between them.
std::string matches(std::string_view pattern, std::string_view text) {
  const Pattern compiled = Pattern::regex(pattern, "here");
  MatchScratch scratch(text.size());
  MatchCursor cursor(compiled, text, scratch);
  std::string found;
  while (const auto match = cursor.next()) found.append(text.substr(match->begin, match->end - match->begin)) += '|';
  return found;
}

TEST(RegexSyntax, SpaceIsWhiteSpaceAlone) {
  EXPECT_EQ(matches(R"(\s+)", "a\u180e b\u0085\u2028c"), " |\u0085\u2028|");
  EXPECT_EQ(matches(R"([\s]+)", "a\u180e b\u0085\u2028c"), " |\u0085\u2028|");
  EXPECT_EQ(matches(R"(\S+)", "a\u180e b\u0085"), "a\u180e|b|");
  EXPECT_EQ(matches(R"([^\S]+)", "a\u180e b\u0085"), " |\u0085|");
}

TEST(RegexSyntax, APlusBehindAnIntervalRepeatsIt) {
  EXPECT_EQ(matches(R"(\p{N}{1,3}+)", "12345678 9"), "12345678|9|");
  EXPECT_EQ(matches(R"(\p{N}{1,3})", "12345678 9"), "123|456|78|9|");
  EXPECT_EQ(matches(R"((?:ab){2}+c)", "ababc abababc ababababc"), "ababc|ababc|ababababc|");
  EXPECT_EQ(matches("a++a", "aaa"), "");
  EXPECT_EQ(matches("a{,2}b", "aaab"), "aab|");
  EXPECT_EQ(matches("a{x}", "a{x}"), "a{x}|");
}

TEST(RegexSyntax, LinesAreRubys) {
  EXPECT_EQ(matches("^a", "a\na\r\rab\na"), "a|a|a|");
  EXPECT_EQ(matches("a$", "a\nab\na\ra"), "a|a|");
  EXPECT_EQ(matches(R"(\Aa|a\z)", "a\na\na"), "a|a|");
  EXPECT_EQ(matches("a.", "a\na\ra"), "a\r|");
}

TEST(RegexSyntax, EscapesAreOnigurumas) {
  EXPECT_EQ(matches(R"(\h+)", "xyz09aFg "), "09aF|");
  EXPECT_EQ(matches(R"(\v)", "\n\v\f"), "\v|");
  EXPECT_EQ(matches(R"(\u2581|\x{2582}|\x41)", "\u2581\u2582A"), "\u2581|\u2582|A|");
  EXPECT_EQ(matches(R"(\w+)", "a\u0301_1 \u00bd\u2160-\u0969"), "a\u0301_1|\u2160|\u0969|");
  EXPECT_EQ(matches(R"([^\p{^L}a]+)", "abc1d"), "bc|d|");
  EXPECT_EQ(matches(R"(\p{Han}+)", "\u4e00\u3001\u3042"), "\u4e00|");  // the ideographic comma is Han by extension only
}

TEST(RegexSyntax, CaseIsFoldedAsInOniguruma) {
  EXPECT_EQ(matches("(?i:'s|k)", "'S'\u017f\u212a"), "'S|'\u017f|\u212a|");
  EXPECT_EQ(matches("(?i)ab", "AB"), "AB|");
  EXPECT_EQ(matches("(?i:a)b", "Ab AB"), "Ab|");
  for (const char* pattern : {"(?i:ss)", "(?i:fi)", "(?i:\u00e9)", "a(?i)b", R"((?i:\p{Lu}))"}) {
    expect_error(ErrorCode::kUnsupported, "here: the regular expression has", [&] { translated(pattern); });
  }
}

TEST(RegexSyntax, WhatHasNoEqualIsRefused) {
  for (const char* pattern : {R"(\bword)",
                              R"((a)\1)",
                              R"(\G)",
                              "[a[bc]]",
                              "[a&&b]",
                              "[[:alpha:]]",
                              "(?<name>a)",
                              "(?m:.)",
                              "(?#x)",
                              "(?~a)",
                              R"(\R)",
                              R"(\X)",
                              R"(\p{Nonsense})",
                              R"(\pL)",
                              "a**",
                              "+",
                              "(*UTF)",
                              "(?=a)*",
                              "a{3}?",
                              "a{2000}",
                              "a{3,1}",
                              "(a",
                              "a)",
                              "[a",
                              "[]",
                              R"(\)",
                              R"([\w-z])",
                              R"([a-\d])",
                              R"(\xff)",
                              R"(\x{d800})",
                              R"(\x{110000})",
                              R"(\x{zz})",
                              R"([\W])",
                              "[z-a]",
                              R"(\K)",
                              R"(\Q.\E)"}) {
    expect_error(ErrorCode::kUnsupported, "the regular expression", [&] { Pattern::regex(pattern, "here"); });
  }
}

TEST(RegexSyntax, HostileSizesAreRefused) {
  expect_error(ErrorCode::kUnsupported, "nested too deeply",
               [] { translated(std::string(100, '(') + "a" + std::string(100, ')')); });
  expect_error(ErrorCode::kUnsupported, "a pattern of 9000 bytes", [] { translated(std::string(9000, 'a')); });
}

TEST(Pattern, ExponentialPatternsEndInAnError) {
  expect_error(ErrorCode::kUnsupported, "more than a second per MiB", [] { matches("(?:a|a)*(?:a|a)*b|c", std::string(60, 'a')); });
}

TEST(Pattern, EmptyMatchesNeverStandStill) {
  EXPECT_EQ(matches("x*", "axxb"), "|xx||");
  EXPECT_EQ(matches("(?=b)", "abb"), "||");
  EXPECT_EQ(matches("a?", "\u00e9a"), "|a|");
}

}  // namespace
}  // namespace tritllm
