// Owns languages of bytes: rules, and the automaton that follows a text byte by byte. States are made when they are first reached
// and kept, so a text costs one table look-up a byte once its states are known. Does not own what a rule means (json_schema.h,
// text_grammars.h) nor tokens (grammar_constraint.h).
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tritllm {

using ByteSet = std::bitset<256>;

// A context-free grammar. No rule may begin with itself, directly or through others, other than as its whole.
class ByteGrammar {
 public:
  using Rule = uint32_t;
  struct Symbol {
    enum class Kind : uint8_t { kBytes, kRule, kEnd };
    Kind kind;
    uint32_t index;  // of a set of bytes, or of a rule
  };
  using Sequence = std::vector<Symbol>;

  static constexpr Rule kStart = 0;
  ByteGrammar() { static_cast<void>(add_rule()); }

  // A rule matches nothing until it has an alternative. Throws an Error where there are too many.
  Rule add_rule();
  void add_alternative(Rule rule, const Sequence& sequence);
  Symbol bytes(const ByteSet& set);
  static Symbol rule(Rule rule) noexcept { return {Symbol::Kind::kRule, rule}; }
  // Appends the bytes of a text.
  void append(Sequence& sequence, std::string_view text);

  // A rule that begins with itself, directly or through others, and goes on after that; nothing where there is none.
  std::optional<Rule> left_recursive_rule() const;

 private:
  friend class ByteAutomaton;
  std::vector<bool> rules_that_may_be_empty() const;

  std::vector<ByteSet> sets_;
  std::vector<Symbol> symbols_;               // of all alternatives, each followed by an end
  std::vector<std::vector<uint32_t>> rules_;  // where the alternatives of each rule begin
};

class ByteAutomaton {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;

  explicit ByteAutomaton(ByteGrammar grammar);

  State start() const noexcept { return start_; }
  // Throws an Error where the grammar leads to too many states.
  State step(State state, uint8_t byte);
  // Whether half of the states or places that it may have are there.
  bool is_worn() const noexcept;
  // Whether a text of the language may end here.
  bool accepts(State state) const noexcept { return accepts_[state]; }

 private:
  // A stack of places in rules: the symbol that comes next, and what follows the rule.
  struct Frame {
    uint32_t symbol, parent, depth;
  };
  static constexpr uint32_t kEmpty = 0;  // the frame of the empty stack
  static constexpr State kUnknown = UINT32_MAX;

  uint32_t frame(uint32_t symbol, uint32_t parent);
  // Adds the frames whose next symbol is a set of bytes, and kEmpty where the text may end.
  void close(uint32_t from, std::set<uint32_t>& frames);
  State state_of(const std::set<uint32_t>& frames);
  State compute_step(State state, uint8_t byte);

  const ByteGrammar grammar_;
  std::vector<Frame> frames_{{0, 0, 0}};
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> known_frames_;
  std::vector<std::vector<uint32_t>> states_;  // frames of each
  std::vector<bool> accepts_;
  std::vector<std::array<State, 256>> steps_;
  std::map<std::vector<uint32_t>, State> known_states_;
  State start_ = kDead;
};

}  // namespace tritllm
