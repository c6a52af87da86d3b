#include "sampling/byte_grammar.h"

#include <fmt/format.h>

#include <string>

#include "core/error.h"

namespace tritllm {
namespace {

constexpr size_t kMostRules = 20'000, kMostSymbols = 400'000;
// A state takes a kilobyte.
constexpr size_t kMostStates = 16'384;
constexpr size_t kMostFrames = 1 << 18;
// A step looks at each place of a state: schemas with more alternatives than this at one place would hold up every answer.
constexpr size_t kMostFramesOfState = 2'000;
// Texts that nest deeper are not in the language.
constexpr uint32_t kDeepest = 200;

[[noreturn]] void refuse(std::string_view what, size_t most) {
  throw Error(ErrorCode::kUnsupported, "grammar", fmt::format("needs more than {} {}", most, what), "take a simpler one");
}

}  // namespace

ByteGrammar::Rule ByteGrammar::add_rule() {
  if (rules_.size() >= kMostRules) refuse("rules", kMostRules);
  rules_.emplace_back();
  return static_cast<Rule>(rules_.size() - 1);
}

void ByteGrammar::add_alternative(Rule rule, const Sequence& sequence) {
  if (symbols_.size() + sequence.size() >= kMostSymbols) refuse("symbols", kMostSymbols);
  rules_[rule].push_back(static_cast<uint32_t>(symbols_.size()));
  symbols_.insert(symbols_.end(), sequence.begin(), sequence.end());
  symbols_.push_back({Symbol::Kind::kEnd, 0});
}

ByteGrammar::Symbol ByteGrammar::bytes(const ByteSet& set) {
  for (size_t i = 0; i < sets_.size(); ++i) {
    if (sets_[i] == set) return {Symbol::Kind::kBytes, static_cast<uint32_t>(i)};
  }
  sets_.push_back(set);
  return {Symbol::Kind::kBytes, static_cast<uint32_t>(sets_.size() - 1)};
}

void ByteGrammar::append(Sequence& sequence, std::string_view text) {
  for (const char c : text) sequence.push_back(bytes(ByteSet().set(static_cast<unsigned char>(c))));
}

ByteAutomaton::ByteAutomaton(ByteGrammar grammar) : grammar_(std::move(grammar)) {
  static_cast<void>(state_of({}));  // kDead
  std::set<uint32_t> frames;
  for (const uint32_t begin : grammar_.rules_[ByteGrammar::kStart]) close(frame(begin, kEmpty), frames);
  start_ = state_of(frames);
}

uint32_t ByteAutomaton::frame(uint32_t symbol, uint32_t parent) {
  if (const auto found = known_frames_.find({symbol, parent}); found != known_frames_.end()) return found->second;
  // The limit is checked before anything is recorded, because later texts use the same automaton.
  if (frames_.size() >= kMostFrames) refuse("places", kMostFrames);
  const auto id = static_cast<uint32_t>(frames_.size());
  frames_.push_back({symbol, parent, frames_[parent].depth + 1});
  known_frames_.emplace(std::pair(symbol, parent), id);
  return id;
}

void ByteAutomaton::close(uint32_t from, std::set<uint32_t>& frames) {
  using Kind = ByteGrammar::Symbol::Kind;
  std::set<uint32_t> seen{from};
  std::vector<uint32_t> open{from};
  const auto visit = [&](uint32_t next) {
    if (frames_[next].depth <= kDeepest && seen.insert(next).second) open.push_back(next);
  };
  while (!open.empty()) {
    const uint32_t id = open.back();
    open.pop_back();
    if (id == kEmpty) {
      frames.insert(kEmpty);
      continue;
    }
    const Frame top = frames_[id];
    const ByteGrammar::Symbol symbol = grammar_.symbols_[top.symbol];
    if (symbol.kind == Kind::kBytes) {
      frames.insert(id);
    } else if (symbol.kind == Kind::kEnd) {
      visit(top.parent);
    } else {
      // A rule at the end of its rule needs no place to return to, so lists do not nest.
      const bool last = grammar_.symbols_[top.symbol + 1].kind == Kind::kEnd;
      const uint32_t next = last ? top.parent : frame(top.symbol + 1, top.parent);
      for (const uint32_t begin : grammar_.rules_[symbol.index]) visit(frame(begin, next));
    }
  }
}

ByteAutomaton::State ByteAutomaton::state_of(const std::set<uint32_t>& frames) {
  std::vector<uint32_t> key(frames.begin(), frames.end());
  if (const auto found = known_states_.find(key); found != known_states_.end()) return found->second;
  if (frames.size() > kMostFramesOfState) refuse("places at once", kMostFramesOfState);
  if (states_.size() >= kMostStates) refuse("states", kMostStates);
  const auto state = static_cast<State>(states_.size());
  accepts_.push_back(frames.contains(kEmpty));
  steps_.emplace_back().fill(kUnknown);
  states_.push_back(key);
  known_states_.emplace(std::move(key), state);
  return state;
}

bool ByteAutomaton::is_worn() const noexcept { return states_.size() > kMostStates / 2 || frames_.size() > kMostFrames / 2; }

ByteAutomaton::State ByteAutomaton::step(State state, uint8_t byte) {
  if (steps_[state][byte] == kUnknown) {
    const State next = compute_step(state, byte);
    steps_[state][byte] = next;
  }
  return steps_[state][byte];
}

ByteAutomaton::State ByteAutomaton::compute_step(State state, uint8_t byte) {
  std::set<uint32_t> frames;
  const std::vector<uint32_t> tops = states_[state];
  for (const uint32_t id : tops) {
    if (id == kEmpty) continue;
    const Frame top = frames_[id];
    if (grammar_.sets_[grammar_.symbols_[top.symbol].index].test(byte)) close(frame(top.symbol + 1, top.parent), frames);
  }
  return state_of(frames);
}

}  // namespace tritllm
