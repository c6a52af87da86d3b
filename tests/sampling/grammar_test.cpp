// Grammars of JSON schemas: random texts of a grammar are read by the JSON parser and checked by hand, texts outside of it are
// refused, and the tokens that a mask allows are those that brute force finds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "core/error.h"
#include "sampling/grammar_constraint.h"
#include "sampling/json_schema.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

ByteGrammar grammar_of(const std::string& schema) {
  static std::vector<std::unique_ptr<Json>> kept;
  kept.push_back(std::make_unique<Json>(parse_json(schema, "schema")));
  return json_schema_grammar({{"", JsonView(*kept.back(), "schema"), ""}});
}

bool matches(ByteAutomaton& automaton, std::string_view text) {
  auto state = automaton.start();
  for (const char byte : text) state = automaton.step(state, static_cast<uint8_t>(byte));
  return automaton.accepts(state);
}

// A random text of the language, ended at the first place where it may end once it is long.
std::string random_text(ByteAutomaton& automaton, std::mt19937& random) {
  std::string text;
  auto state = automaton.start();
  while (true) {
    std::vector<uint8_t> next;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (automaton.step(state, static_cast<uint8_t>(byte)) != ByteAutomaton::kDead) next.push_back(static_cast<uint8_t>(byte));
    }
    if (automaton.accepts(state) && (next.empty() || random() % 4 == 0)) return text;
    // What closes something comes more often, so that texts end.
    std::vector<uint8_t> closing;
    for (const uint8_t byte : next) {
      if (byte == '"' || byte == '}' || byte == ']') closing.push_back(byte);
    }
    const auto& choices = !closing.empty() && random() % 3 == 0 ? closing : next;
    const uint8_t byte = choices[random() % choices.size()];
    text.push_back(static_cast<char>(byte));
    state = automaton.step(state, byte);
    if (text.size() > 100'000) return text;
  }
}

struct Example {
  const char* schema;
  std::vector<const char*> inside, outside;
};

const std::vector<Example>& examples() {
  static const std::vector<Example> all{
      {R"({"type": "string"})",
       {R"("")", R"("a\n\u00e9é€𐍈")"},
       {"", R"("a)", "\"\x01\"", "\"\xff\"", "\"\xed\xa0\x80\"", R"("\ud800")", R"("\x")", "1"}},
      {R"({"type": "integer"})", {"0", "-7", "120"}, {"", "-", "01", "1.0", "1e3", "+1"}},
      {R"({"type": "number"})", {"0", "-1.5", "2e10", "1.25E-3"}, {"1.", ".5", "1e", "NaN", "00"}},
      {R"({"type": ["boolean", "null"]})", {"true", "false", "null"}, {"True", "nul", "0"}},
      {R"({"enum": ["red", "redder", 1, null]})", {R"("red")", R"("redder")", "1", "null"}, {R"("redd")", "2"}},
      {R"({"const": {"a": [1]}})", {R"({"a":[1]})"}, {R"({"a": [1]})", "{}"}},
      {R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})",
       {"[1]", "[1,2]", "[1, 2, 3]"},
       {"[]", "[1,]", "[1,2,3,4]", "[1 ,2]"}},
      {R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1]"}},
      {R"({"type": "array"})", {"[]", R"([1, {"a": [null]}, "x"])"}, {"[", "[,]"}},
      {R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "null"}}, "required": ["b"]})",
       {R"({"b":""})", R"({"a":1,"b":""})", R"({"a": 1, "b": "x", "c": null})", R"({"b":"","c":null})"},
       {"{}", R"({"a":1})", R"({"b":"",})", R"({"b":"","a":1})", R"({"b":"","d":1})", R"({"b":""}})"}},
      {R"({"type": "object", "properties": {"a": {}, "b": {}}})",
       {"{}", R"({"a":[]})", R"({"b":{}})", R"({"a":1,"b":2})"},
       {"{,}", R"({"a":1"b":2})"}},
      {R"({"type": "object", "additionalProperties": {"type": "integer"}})", {"{}", R"({"x":1, "y":2})"}, {R"({"x":"1"})"}},
      {R"({"type": "object", "additionalProperties": false})", {"{}"}, {R"({"x":1})"}},
      {R"({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}}]})", {"1", "[]", "[[1], 2]"}, {"[true]", "[["}},
      {R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["next"]}}})",
       {R"({"next":null})", R"({"next":{"next":null}})"},
       {"{}", R"({"next":1})"}},
  };
  return all;
}

TEST(Grammar, TextsInsideAndOutside) {
  for (const Example& example : examples()) {
    ByteAutomaton automaton(grammar_of(example.schema));
    for (const char* text : example.inside) EXPECT_TRUE(matches(automaton, text)) << example.schema << " " << text;
    for (const char* text : example.outside) EXPECT_FALSE(matches(automaton, text)) << example.schema << " " << text;
  }
}

TEST(Grammar, RandomTextsAreJson) {
  std::mt19937 random(1);
  for (const Example& example : examples()) {
    ByteAutomaton automaton(grammar_of(example.schema));
    for (int i = 0; i < 50; ++i) {
      const std::string text = random_text(automaton, random);
      ASSERT_LT(text.size(), 100'000) << example.schema;
      EXPECT_TRUE(Json::accept(text)) << text;
    }
  }
}

TEST(Grammar, AnyObjectTakesWhatTheParserTakes) {
  ByteAutomaton automaton(json_object_grammar());
  for (const char* text : {"{}", R"({"a":{"b":[1, 2.5e3, "x", null, true, {}]}})"}) EXPECT_TRUE(matches(automaton, text)) << text;
  for (const char* text : {"[]", "1", "{", R"({"a"})", R"({a:1})"}) EXPECT_FALSE(matches(automaton, text)) << text;
  std::mt19937 random(2);
  for (int i = 0; i < 50; ++i) {
    const std::string text = random_text(automaton, random);
    EXPECT_TRUE(text.size() > 100'000 || Json::parse(text).is_object()) << text;
  }
}

TEST(Grammar, RefusesWhatItCannotGuarantee) {
  for (const char* schema :
       {R"({"type": "string", "pattern": "a"})", R"({"type": "integer", "minimum": 1})", R"({"oneOf": []})", R"({"type": "text"})",
        R"({"$ref": "http://x/y"})", R"({"$ref": "#/nothing"})", R"({"type": "object", "properties": {"a": {"format": "date"}}})",
        R"({"type": "array", "minItems": 3, "maxItems": 2})", R"({"type": "array", "maxItems": 100000})", "5", "false",
        R"({"type": "object", "properties": {"a": {}}, "required": ["b"]})", R"({"enum": []})"}) {
    EXPECT_THROW(static_cast<void>(grammar_of(schema)), Error) << schema;
  }
}

TEST(Grammar, ReferencesToThemselvesMatchNothing) {
  ByteAutomaton automaton(
      grammar_of(R"({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}})"));
  EXPECT_EQ(automaton.start(), ByteAutomaton::kDead);
}

TEST(Grammar, DeepTextsEndTheLanguageAndNotTheProgram) {
  ByteAutomaton automaton(grammar_of("{}"));
  EXPECT_TRUE(matches(automaton, std::string(20, '[') + std::string(20, ']')));
  EXPECT_FALSE(matches(automaton, std::string(50'000, '[') + std::string(50'000, ']')));
}

std::vector<std::string> some_tokens() {
  std::vector<std::string> tokens;
  for (unsigned byte = 0; byte < 256; ++byte) tokens.push_back(std::string(1, static_cast<char>(byte)));
  for (const char* word : {"",      "true",  "tr",   "{\"", "\":", "\": ", "\",", "\"}", "}}",  "123",   "12",  "1.5",
                           "\",\"", "hello", "hell", "[[",  "]]",  "\xC3", "é",   "é\"", " \"", "null,", "</s>"}) {
    tokens.emplace_back(word);
  }
  return tokens;
}

TEST(GrammarConstraint, AllowsTheTokensThatBruteForceFinds) {
  const std::vector<std::string> tokens = some_tokens();
  const auto end = static_cast<uint32_t>(tokens.size() - 1);
  const auto trie = std::make_shared<TokenTrie>(tokens, std::vector<uint32_t>{end});
  std::mt19937 random(3);
  for (const Example& example : examples()) {
    TokenGrammar grammar(trie, grammar_of(example.schema));
    ByteAutomaton automaton(grammar_of(example.schema));
    auto state = grammar.start();
    auto expected = automaton.start();
    for (int step = 0; step < 40; ++step) {
      const auto& mask = grammar.allowed(state);
      std::vector<uint32_t> allowed;
      for (uint32_t token = 0; token < tokens.size(); ++token) {
        auto at = expected;
        for (const char byte : tokens[token]) at = automaton.step(at, static_cast<uint8_t>(byte));
        const bool may = token == end ? automaton.accepts(expected) : !tokens[token].empty() && at != ByteAutomaton::kDead;
        ASSERT_EQ((mask[token / 64] >> (token % 64) & 1) != 0, may)
            << example.schema << " token " << tokens[token] << " step " << step;
        if (may && token != end) allowed.push_back(token);
      }
      if (allowed.empty()) break;
      const uint32_t chosen = allowed[random() % allowed.size()];
      state = grammar.after(state, chosen);
      for (const char byte : tokens[chosen]) expected = automaton.step(expected, static_cast<uint8_t>(byte));
    }
  }
}

TEST(GrammarConstraint, BansTokensOfTheRowBeyondTheTokenizer) {
  const auto trie = std::make_shared<TokenTrie>(some_tokens(), std::vector<uint32_t>{});
  GrammarConstraint constraint(std::make_shared<TokenGrammar>(trie, grammar_of(R"({"type": "boolean"})")));
  std::vector<float> logits(some_tokens().size() + 200, 1.0f);
  constraint.mask(logits);
  EXPECT_EQ(logits['t'], 1.0f);
  EXPECT_TRUE(std::isinf(logits['x']));
  EXPECT_TRUE(std::isinf(logits.back()));
  EXPECT_EQ(std::ranges::count_if(logits, [](float logit) { return std::isfinite(logit); }), 4);  // t, f, tr, true
}

// A refused step leaves the automaton as it was: others go on using it.
TEST(Grammar, AFullAutomatonRefusesAgainAndAgain) {
  ByteAutomaton automaton(json_object_grammar());
  std::mt19937 random(1);
  const std::vector<std::string> openings{R"({"a":)", "[", "[0,", R"({"a":0,"b":)"};
  EXPECT_TRUE(matches(automaton, R"({"a": 1})"));
  EXPECT_FALSE(automaton.is_worn());
  bool refused = false;
  for (int text = 0; text < 1000 && !refused; ++text) {
    ByteAutomaton::State state = automaton.start();
    std::string bytes = openings[0];
    for (int depth = 0; depth < 150; ++depth) bytes += openings[random() % openings.size()];
    for (const char byte : bytes) {
      try {
        state = automaton.step(state, static_cast<uint8_t>(byte));
      } catch (const Error&) {
        refused = true;
        for (int again = 0; again < 3; ++again)
          expect_error(ErrorCode::kUnsupported, "grammar", [&] { automaton.step(state, static_cast<uint8_t>(byte)); });
        break;
      }
    }
  }
  EXPECT_TRUE(refused);
  EXPECT_TRUE(automaton.is_worn());
  EXPECT_TRUE(matches(automaton, R"({"a": 1})"));
}

TEST(Grammar, SchemasWithTooManyWaysToGoOnAreRefused) {
  std::string schema = R"({"anyOf": [)";
  for (int i = 0; i < 4000; ++i) schema += R"({"properties":{"a":{"type":"string"}},"required":["a"]},)";
  schema.back() = ']';
  schema += "}";
  expect_error(ErrorCode::kUnsupported, "grammar", [&] {
    ByteAutomaton automaton(grammar_of(schema));
    matches(automaton, R"({"a":"x"})");
  });
}

}  // namespace
}  // namespace tritllm
