#include <fmt/format.h>

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "core/error.h"
#include "sampling/grammar_parts.h"
#include "sampling/text_grammars.h"

namespace tritllm {
namespace {

using Rule = ByteGrammar::Rule;
using Sequence = ByteGrammar::Sequence;

constexpr size_t kDeepestGroup = 50;  // a group takes up to three places of an automaton's stack

bool is_name_character(uint32_t c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class GbnfCompiler {
 public:
  GbnfCompiler(std::string_view text, const std::string& where) : text_(text, where), where_(where) {}

  ByteGrammar compile() {
    skip_space(/*lines=*/true);
    while (!text_.at_end()) {
      definition();
      skip_space(/*lines=*/true);
    }
    for (const auto& [name, named] : rules_) {
      if (!named.defined) text_.refuse_at(named.place, fmt::format("the rule '{}' is not defined", name));
    }
    const auto root = rules_.find("root");
    if (root == rules_.end()) throw Error(ErrorCode::kBadInput, where_, "expected a rule 'root'");
    if (const auto rule = grammar_.left_recursive_rule()) {
      throw Error(ErrorCode::kUnsupported, where_, fmt::format("the rule {} begins with itself", name_of(*rule)),
                  "let it end with itself instead");
    }
    grammar_.add_alternative(ByteGrammar::kStart, {ByteGrammar::rule(root->second.rule)});
    return std::move(grammar_);
  }

 private:
  struct NamedRule {
    Rule rule;
    size_t place;  // where it was first named
    bool defined = false;
  };

  std::string name_of(Rule rule) const {
    for (const auto& [name, named] : rules_) {
      if (named.rule == rule) return fmt::format("'{}'", name);
    }
    return "of a group";
  }

  void skip_space(bool lines) {
    while (true) {
      if (text_.peek() == '#') {
        while (!text_.at_end() && text_.peek() != '\n') text_.take();
      } else if (text_.peek() == ' ' || text_.peek() == '\t' || (lines && (text_.peek() == '\n' || text_.peek() == '\r'))) {
        text_.take();
      } else {
        return;
      }
    }
  }

  NamedRule& named_rule() {
    const size_t place = text_.place();
    std::string name;
    while (is_name_character(text_.peek())) name += static_cast<char>(text_.take());
    if (name.empty()) text_.refuse("a rule's name");
    const auto found = rules_.find(name);
    if (found != rules_.end()) return found->second;
    return rules_.emplace(name, NamedRule{grammar_.add_rule(), place}).first->second;
  }

  void definition() {
    const size_t place = text_.place();
    NamedRule& named = named_rule();
    if (std::exchange(named.defined, true)) text_.refuse_at(place, "the rule is defined twice");
    skip_space(/*lines=*/false);
    if (!text_.skip("::=")) text_.refuse("'::='");
    skip_space(/*lines=*/true);
    alternatives(named.rule, 0);
    skip_space(/*lines=*/false);
    if (!text_.at_end() && text_.peek() != '\n' && text_.peek() != '\r') text_.refuse("the end of the rule");
  }

  // Within parentheses a line may end anywhere.
  void alternatives(Rule rule, size_t depth) {
    if (depth > kDeepestGroup) text_.refuse_at(text_.place(), "groups are nested too deeply");
    while (true) {
      grammar_.add_alternative(rule, sequence(depth));
      if (!text_.skip("|")) return;
      skip_space(/*lines=*/true);
    }
  }

  Sequence sequence(size_t depth) {
    Sequence parts;
    while (!text_.at_end()) {
      const std::optional<Sequence> part = atom(depth);
      if (!part) break;
      const Sequence counts = counted(*part);
      parts.insert(parts.end(), counts.begin(), counts.end());
      skip_space(depth > 0);
    }
    return parts;
  }

  std::optional<Sequence> atom(size_t depth) {
    if (text_.skip("\"")) return literal();
    if (text_.skip("[")) return Sequence{ByteGrammar::rule(add_characters(grammar_, char_class()))};
    if (text_.skip(".")) return Sequence{ByteGrammar::rule(add_characters(grammar_, CharacterSet().inverted()))};
    if (text_.skip("(")) {
      skip_space(/*lines=*/true);
      const Rule rule = grammar_.add_rule();
      alternatives(rule, depth + 1);
      if (!text_.skip(")")) text_.refuse("')'");
      return Sequence{ByteGrammar::rule(rule)};
    }
    if (is_name_character(text_.peek())) return Sequence{ByteGrammar::rule(named_rule().rule)};
    return std::nullopt;
  }

  Sequence counted(const Sequence& part) {
    const auto repetition = text_.repetition();
    if (!repetition) return part;
    const Rule rule = grammar_.add_rule();
    grammar_.add_alternative(rule, part);
    return {ByteGrammar::rule(add_repetition(grammar_, rule, repetition->least, repetition->most))};
  }

  Sequence literal() {
    Sequence sequence;
    while (!text_.skip("\"")) grammar_.append(sequence, utf8_of(character()));
    return sequence;
  }

  CharacterSet char_class() {
    const bool inverted = text_.skip("^");
    CharacterSet set;
    while (!text_.skip("]")) {
      const size_t place = text_.place();
      const uint32_t low = character();
      uint32_t high = low;
      if (text_.peek() == '-' && text_.peek(1) != ']') {
        text_.take();
        high = character();
      }
      if (high < low) text_.refuse_at(place, "the range goes backwards");
      set.add(low, high);
    }
    return inverted ? set.inverted() : set;
  }

  uint32_t character() {
    const uint32_t c = text_.take();
    if (c != '\\') return c;
    const size_t place = text_.place();
    const uint32_t escaped = text_.take();
    switch (escaped) {
      case 'n': return '\n';
      case 't': return '\t';
      case 'r': return '\r';
      case 'x': return text_.hexadecimal(2);
      case 'u': return text_.hexadecimal(4);
      case 'U': return text_.hexadecimal(8);
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^': return escaped;
      default: text_.refuse_at(place, "this escape is not known");
    }
  }

  GrammarText text_;
  const std::string where_;
  ByteGrammar grammar_;
  std::map<std::string, NamedRule> rules_;
};

}  // namespace

ByteGrammar gbnf_grammar(std::string_view text, const std::string& where) { return GbnfCompiler(text, where).compile(); }

}  // namespace tritllm
