// Regular expressions against std::regex on random texts, sets of characters against their definition, and grammars in GBNF against
// texts that are known to be inside or outside.
#include "sampling/text_grammars.h"

#include <gtest/gtest.h>

#include <random>
#include <regex>
#include <string>
#include <vector>

#include "core/utf8.h"
#include "sampling/grammar_parts.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

bool matches(ByteAutomaton& automaton, std::string_view text) {
  auto state = automaton.start();
  for (const char byte : text) state = automaton.step(state, static_cast<uint8_t>(byte));
  return automaton.accepts(state);
}

TEST(RegexGrammar, MatchesWhatTheStandardLibraryMatches) {
  std::mt19937 random(1);
  for (const char* const pattern :
       {"",        "a",          "ab|b",   "(ab|a)(c|bcd)?",     "a*b+c?",       "a{2}",      "a{1,3}b{2,}",     "(a|b)*abb",
        "[a-c]+1", "[^a]b",      ".b.",    "\\d{1,3}(\\.\\d+)?", "\\w+\\s\\w*",  "\\W\\D\\S", "(?:a|(b|c){2})+", "a|",
        "(a*)*b",  "((a|b)?c)*", "a+?b*?", "[\\d\\-b]*",         "\\x61\\u0062", "a\\.|\\|",  "(a{0,2}b){0,2}",  "[a\\]b]+"}) {
    ByteAutomaton automaton(regex_grammar(pattern, "pattern"));
    const std::regex oracle(pattern, std::regex::ECMAScript);
    size_t inside = 0;
    for (int i = 0; i < 3000; ++i) {
      std::string text;
      for (size_t length = random() % 7; length > 0; --length) text += "aabbc1 .-]|d"[random() % 12];
      const bool expected = std::regex_match(text, oracle);
      inside += expected;
      ASSERT_EQ(matches(automaton, text), expected) << pattern << " '" << text << "'";
    }
    EXPECT_GT(inside, 0u) << pattern;
  }
}

TEST(RegexGrammar, AnchorsAndNamedGroupsChangeNothing) {
  for (const char* const pattern : {"^a|b$", "(?P<x>a)|b", "(?<x>a|b)"}) {
    ByteAutomaton automaton(regex_grammar(pattern, "pattern"));
    EXPECT_TRUE(matches(automaton, "a") && matches(automaton, "b")) << pattern;
    EXPECT_FALSE(matches(automaton, "ab") || matches(automaton, "")) << pattern;
  }
}

TEST(RegexGrammar, RefusesWhatItCannotGuaranteeWithItsPlace) {
  struct Wrong {
    const char *pattern, *words;
  };
  for (const auto& [pattern, words] :
       {Wrong{"(a)\\1", "character 5"},  Wrong{"a(?=b)", "character 3"}, Wrong{"(?!a)", "character 2"},
        Wrong{"(?<=a)b", "character 2"}, Wrong{"(?i)a", "character 2"},  Wrong{"\\ba", "character 2"},
        Wrong{"\\p{L}", "character 2"},  Wrong{"a**", "character 3"},    Wrong{"*a", "character 1"},
        Wrong{"a++", "character 3"},     Wrong{"(a", "character 3"},     Wrong{"a)", "character 2"},
        Wrong{"[a", "character 3"},      Wrong{"[b-a]", "character 2"},  Wrong{"a{3,2}", "character 3"},
        Wrong{"a{2000}", "1000"},        Wrong{"a{x}", "a number"},      Wrong{"a^b", "character 2"},
        Wrong{"a$b", "character 2"},     Wrong{"\\", "more text"},       Wrong{"[[:alpha:]]", "named classes"},
        Wrong{"\\xZZ", "hexadecimal"},   Wrong{"(?<x", "more text"}}) {
    expect_error(ErrorCode::kUnsupported, words, [&] { static_cast<void>(regex_grammar(pattern, "pattern")); });
  }
  expect_error(ErrorCode::kBadInput, "UTF-8", [&] { static_cast<void>(regex_grammar("\xff", "pattern")); });
  expect_error(ErrorCode::kUnsupported, "nested",
               [&] { static_cast<void>(regex_grammar(std::string(1000, '(') + std::string(1000, ')'), "pattern")); });
  expect_error(ErrorCode::kUnsupported, "rules", [&] {
    std::string pattern;
    for (int i = 0; i < 100; ++i) pattern += "a{0,1000}";
    static_cast<void>(regex_grammar(pattern, "pattern"));
  });
}

TEST(RegexGrammar, GroupsMayNestAsDeepAsItSays) {
  std::string pattern = "a";
  for (int i = 0; i < 50; ++i) pattern = "(" + pattern + ")?";
  ByteAutomaton automaton(regex_grammar(pattern + "b", "pattern"));
  EXPECT_TRUE(matches(automaton, "ab") && matches(automaton, "b"));
}

TEST(ChoiceGrammar, TakesTheTextsAlone) {
  ByteAutomaton automaton(choice_grammar({"yes", "yes, but", "né"}));
  for (const char* text : {"yes", "yes, but", "né"}) EXPECT_TRUE(matches(automaton, text)) << text;
  for (const char* text : {"", "ye", "yes,", "no", "yesyes"}) EXPECT_FALSE(matches(automaton, text)) << text;
}

// By the definition of UTF-8.
std::string encoded(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(static_cast<uint8_t>(value)); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 63))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
  return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
}

TEST(CharacterSet, TakesItsCharactersAlone) {
  const std::vector<std::vector<std::pair<uint32_t, uint32_t>>> sets = {{{'a', 'c'}},
                                                                        {{0, kLastCharacter}},
                                                                        {{0x7F, 0x800}},
                                                                        {{0x400, 0x4FF}, {0x20, 0x40}},
                                                                        {{0x1234, 0xFEDC}},
                                                                        {{0xFFFF, 0x10345}},
                                                                        {}};
  for (const auto& ranges : sets) {
    for (const bool inverted : {false, true}) {
      CharacterSet set;
      for (const auto& [first, last] : ranges) set.add(first, last);
      ByteGrammar grammar;
      grammar.add_alternative(ByteGrammar::kStart, {ByteGrammar::rule(add_characters(grammar, inverted ? set.inverted() : set))});
      ByteAutomaton automaton(std::move(grammar));
      for (uint32_t c = 0; c <= kLastCharacter; c += c < 0x900 ? 1 : 7) {
        bool expected = false;
        for (const auto& [first, last] : ranges) expected = expected || (c >= first && c <= last);
        const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        ASSERT_EQ(matches(automaton, encoded(c)), (expected != inverted) && !surrogate) << c;
      }
      EXPECT_FALSE(matches(automaton, "\xC0\x80") || matches(automaton, "\xED\xA0\x80") || matches(automaton, "\xF5\x80\x80\x80"));
    }
  }
}

struct GbnfExample {
  const char* grammar;
  std::vector<const char*> inside, outside;
};

TEST(GbnfGrammar, TextsInsideAndOutside) {
  const std::vector<GbnfExample> examples{
      {"root ::= \"yes\" | \"no\"", {"yes", "no"}, {"", "y", "yesno"}},
      {"# lists\nroot ::= item+\nitem ::= \"- \" [^\\r\\n\\x0b]+ \"\\n\"\n", {"- a\n", "- a\n- é\n"}, {"", "- \n", "- a"}},
      // Arithmetic of llama.cpp's examples.
      {"root  ::= (expr \"=\" ws term \"\\n\")+\nexpr  ::= term ([-+*/] term)*\nterm  ::= ident | num | \"(\" ws expr \")\" ws\n"
       "ident ::= [a-z] [a-z0-9_]* ws\nnum   ::= [0-9]+ ws\nws    ::= [ \\t\\n]*",
       {"1=2\n", "(a +b)*3 = c1 \n", "1-2=3\n4=5\n"},
       {"1=2", "1+=2\n", "()=1\n", "A=1\n"}},
      {"root ::= (\n  \"a\" # first\n  | [b-d]{2,3}\n) \"\\\"\\u00e9\"?", {"a", "bcd", "a\"é", "bb"}, {"b", "bbbb", "a\""}},
      {"root ::= . .", {"ab", "\né", "𐍈x"}, {"a", "abc"}},
      {"root ::= \"a\" root |\n  \"b\"", {"b", "aaab"}, {"", "a", "ba"}}};
  for (const GbnfExample& example : examples) {
    ByteAutomaton automaton(gbnf_grammar(example.grammar, "grammar"));
    for (const char* text : example.inside) EXPECT_TRUE(matches(automaton, text)) << example.grammar << "\n" << text;
    for (const char* text : example.outside) EXPECT_FALSE(matches(automaton, text)) << example.grammar << "\n" << text;
  }
}

TEST(GbnfGrammar, RefusesWhatItCannotHonour) {
  struct Wrong {
    const char *grammar, *words;
  };
  for (const auto& [grammar, words] :
       {Wrong{"root ::= a", "'a' is not defined"}, Wrong{"root ::= \"a\"\nroot ::= \"b\"", "defined twice"},
        Wrong{"root ::= root \"a\" | \"b\"", "'root' begins with itself"},
        Wrong{"root ::= a \"x\" | \"y\"\na ::= root", "begins with itself"},
        Wrong{"root ::= n root \"x\" | \"y\"\nn ::= \"\"", "begins with itself"}, Wrong{"root = \"a\"", "'::='"},
        Wrong{"root ::= \"a", "more text"}, Wrong{"root ::= [a", "more text"}, Wrong{"root ::= (\"a\"", "')'"},
        Wrong{"root ::= \"a\" )", "the end of the rule"}, Wrong{"root ::= <think>", "the end of the rule"},
        Wrong{"root ::= \"\\q\"", "escape"}, Wrong{"root ::= \"\\ud800\"", "no character"},
        Wrong{"root ::= \"a\"{5000}", "1000"}}) {
    expect_error(ErrorCode::kUnsupported, words, [&] { static_cast<void>(gbnf_grammar(grammar, "grammar")); });
  }
  expect_error(ErrorCode::kBadInput, "'root'", [] { static_cast<void>(gbnf_grammar("a ::= \"b\"", "grammar")); });
}

TEST(GbnfGrammar, AHostileGrammarIsReadQuickly) {
  std::string chain = "root ::= r0\n";
  for (int i = 0; i < 3000; ++i) chain += "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + "\n";
  chain += "r3000 ::= \"a\"\n";
  ByteAutomaton automaton(gbnf_grammar(chain, "grammar"));
  EXPECT_TRUE(matches(automaton, "a"));
}

}  // namespace
}  // namespace tritllm
