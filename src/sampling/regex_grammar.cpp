#include <fmt/format.h>

#include <optional>
#include <utility>

#include "core/error.h"
#include "sampling/grammar_parts.h"
#include "sampling/text_grammars.h"

namespace tritllm {
namespace {

using Rule = ByteGrammar::Rule;
using Sequence = ByteGrammar::Sequence;

constexpr size_t kDeepestGroup = 50;  // a group takes up to three places of an automaton's stack

CharacterSet one(uint32_t first, uint32_t last) {
  CharacterSet set;
  set.add(first, last);
  return set;
}

// \d, \w and \s, as ASCII has them; their opposites in capitals.
std::optional<CharacterSet> named_class(uint32_t letter) {
  CharacterSet set;
  switch (letter | 0x20) {
    case 'd': set.add('0', '9'); break;
    case 'w': set.add('0', '9'), set.add('A', 'Z'), set.add('a', 'z'), set.add('_', '_'); break;
    case 's': set.add('\t', '\r'), set.add(' ', ' '); break;
    default: return std::nullopt;
  }
  return letter & 0x20 ? set : set.inverted();
}

class RegexCompiler {
 public:
  RegexCompiler(std::string_view pattern, const std::string& where) : text_(pattern, where) {}

  ByteGrammar compile() {
    text_.skip("^");
    const Rule all = alternatives(0);
    if (!text_.at_end()) text_.refuse("the end of the expression");
    grammar_.add_alternative(ByteGrammar::kStart, {ByteGrammar::rule(all)});
    return std::move(grammar_);
  }

 private:
  Rule alternatives(size_t depth) {
    if (depth > kDeepestGroup) text_.refuse_at(text_.place(), "groups are nested too deeply");
    const Rule rule = grammar_.add_rule();
    do {
      grammar_.add_alternative(rule, sequence(depth));
    } while (text_.skip("|"));
    return rule;
  }

  Sequence sequence(size_t depth) {
    Sequence parts;
    while (!text_.at_end() && text_.peek() != '|' && text_.peek() != ')') {
      if (text_.peek() == '$') {
        // Elsewhere nothing could follow it.
        if (depth != 0 || text_.peek(1) != 0) text_.refuse_at(text_.place(), "'$' is taken only at the end of the expression");
        text_.take();
        break;
      }
      parts.push_back(ByteGrammar::rule(counted(depth)));
    }
    return parts;
  }

  Rule counted(size_t depth) {
    const Rule rule = atom(depth);
    const auto repetition = text_.repetition();
    if (!repetition) return rule;
    text_.skip("?");  // a count that is not greedy matches the same texts
    if (text_.peek() == '*' || text_.peek() == '+' || text_.peek() == '?' || text_.peek() == '{') text_.refuse("no second count");
    return add_repetition(grammar_, rule, repetition->least, repetition->most);
  }

  Rule atom(size_t depth) {
    if (text_.skip("(")) return group(depth);
    if (text_.skip("[")) return add_characters(grammar_, char_class());
    if (text_.skip(".")) return add_characters(grammar_, one('\n', '\n').inverted());
    if (text_.skip("\\")) return add_characters(grammar_, escape());
    const uint32_t c = text_.peek();
    if (c == '*' || c == '+' || c == '?' || c == '{') text_.refuse("something to count before it");
    if (c == '^') text_.refuse_at(text_.place(), "'^' is taken only at the beginning of the expression");
    return add_characters(grammar_, one(c, text_.take()));
  }

  Rule group(size_t depth) {
    if (text_.peek() == '?') {
      const size_t place = text_.place();
      if (text_.skip("?P<") || (text_.peek(1) == '<' && text_.peek(2) != '=' && text_.peek(2) != '!' && text_.skip("?<"))) {
        while (text_.take() != '>') {
        }
      } else if (!text_.skip("?:")) {
        text_.refuse_at(place, "groups may only be plain, '(?:' or named: assertions and flags cannot be guaranteed");
      }
    }
    const Rule rule = alternatives(depth + 1);
    if (!text_.skip(")")) text_.refuse("')'");
    return rule;
  }

  // After a backslash.
  CharacterSet escape() {
    const size_t place = text_.place();
    const uint32_t c = text_.take();
    if (const auto set = named_class(c)) return *set;
    if (const auto character = escaped_character(c)) return one(*character, *character);
    text_.refuse_at(place, "this escape is not known, or cannot be guaranteed");
  }

  std::optional<uint32_t> escaped_character(uint32_t c) {
    switch (c) {
      case 'n': return '\n';
      case 't': return '\t';
      case 'r': return '\r';
      case 'f': return '\f';
      case 'v': return '\v';
      case 'x': return text_.hexadecimal(2);
      case 'u': return text_.hexadecimal(4);
      default: break;
    }
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return is_letter ? std::nullopt : std::optional(c);
  }

  CharacterSet char_class() {
    const bool inverted = text_.skip("^");
    CharacterSet set;
    bool first = true;
    while (first || text_.peek() != ']') {
      first = false;
      class_item(set);
    }
    text_.skip("]");
    return inverted ? set.inverted() : set;
  }

  void class_item(CharacterSet& set) {
    const size_t place = text_.place();
    if (text_.peek() == '[' && (text_.peek(1) == ':' || text_.peek(1) == '.' || text_.peek(1) == '='))
      text_.refuse_at(place, "named classes are not known");
    if (text_.peek() == '\\') {
      if (const auto named = named_class(text_.peek(1))) {
        text_.take(), text_.take();
        return set.add(*named);
      }
    }
    const uint32_t low = class_character();
    if (text_.peek() != '-' || text_.peek(1) == ']') return set.add(low, low);
    text_.take();
    const uint32_t high = class_character();
    if (high < low) text_.refuse_at(place, "the range goes backwards");
    set.add(low, high);
  }

  uint32_t class_character() {
    const size_t place = text_.place();
    const uint32_t c = text_.take();
    if (c != '\\') return c;
    const uint32_t escaped = text_.take();
    if (escaped == 'b') return '\b';
    if (const auto character = escaped_character(escaped)) return *character;
    text_.refuse_at(place, "this escape is not known in a class");
  }

  GrammarText text_;
  ByteGrammar grammar_;
};

}  // namespace

ByteGrammar regex_grammar(std::string_view pattern, const std::string& where) { return RegexCompiler(pattern, where).compile(); }

ByteGrammar choice_grammar(const std::vector<std::string>& texts) {
  ByteGrammar grammar;
  for (const std::string& text : texts) {
    Sequence sequence;
    grammar.append(sequence, text);
    grammar.add_alternative(ByteGrammar::kStart, sequence);
  }
  return grammar;
}

}  // namespace tritllm
