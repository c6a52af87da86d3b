// The search for rules that begin with themselves, which ByteAutomaton would follow until its stack is full.
#include <algorithm>
#include <vector>

#include "sampling/byte_grammar.h"

namespace tritllm {
namespace {

using Symbol = ByteGrammar::Symbol;

struct Edge {
  uint32_t to;
  bool last;  // nothing follows in the rule: then beginning with itself adds nothing
};

// Strongly connected parts by Tarjan's algorithm, without recursion: rules may form long chains.
class Parts {
 public:
  explicit Parts(const std::vector<std::vector<Edge>>& edges)
      : edges_(edges), order_(edges.size(), kUnseen), low_(edges.size()), part_(edges.size(), kUnseen) {
    for (uint32_t rule = 0; rule < edges_.size(); ++rule) {
      if (order_[rule] == kUnseen) visit(rule);
    }
  }
  bool together(uint32_t a, uint32_t b) const noexcept { return part_[a] == part_[b]; }

 private:
  static constexpr uint32_t kUnseen = UINT32_MAX;
  struct Step {
    uint32_t rule;
    size_t next;  // edge
  };

  void enter(uint32_t rule, std::vector<Step>& path) {
    order_[rule] = low_[rule] = count_++;
    open_.push_back(rule);
    path.push_back({rule, 0});
  }

  void visit(uint32_t first) {
    std::vector<Step> path;
    enter(first, path);
    while (!path.empty()) {
      const uint32_t rule = path.back().rule;
      if (path.back().next < edges_[rule].size()) {
        const uint32_t to = edges_[rule][path.back().next++].to;
        if (order_[to] == kUnseen) enter(to, path);
        else if (part_[to] == kUnseen) low_[rule] = std::min(low_[rule], order_[to]);
        continue;
      }
      path.pop_back();
      if (!path.empty()) low_[path.back().rule] = std::min(low_[path.back().rule], low_[rule]);
      if (low_[rule] == order_[rule]) close(rule);
    }
  }

  void close(uint32_t rule) {
    uint32_t member = kUnseen;
    do {
      member = open_.back();
      open_.pop_back();
      part_[member] = rule;
    } while (member != rule);
  }

  const std::vector<std::vector<Edge>>& edges_;
  std::vector<uint32_t> order_, low_, part_, open_;
  uint32_t count_ = 0;
};

}  // namespace

std::vector<bool> ByteGrammar::rules_that_may_be_empty() const {
  struct Use {
    Rule owner;
    uint32_t alternative;
  };
  std::vector<std::vector<Use>> uses(rules_.size());
  std::vector<uint32_t> missing(symbols_.size(), 0);  // symbols of the alternative at this place that may not be empty yet
  std::vector<bool> empty(rules_.size());
  std::vector<Rule> open;
  const auto note_empty = [&](Rule rule) {
    if (empty[rule]) return;
    empty[rule] = true;
    open.push_back(rule);
  };
  for (Rule rule = 0; rule < rules_.size(); ++rule) {
    for (const uint32_t begin : rules_[rule]) {
      for (uint32_t at = begin; symbols_[at].kind != Symbol::Kind::kEnd; ++at) {
        ++missing[begin];
        if (symbols_[at].kind == Symbol::Kind::kRule) uses[symbols_[at].index].push_back({rule, begin});
      }
      if (missing[begin] == 0) note_empty(rule);
    }
  }
  while (!open.empty()) {
    const Rule rule = open.back();
    open.pop_back();
    for (const auto& [owner, alternative] : uses[rule]) {
      if (--missing[alternative] == 0) note_empty(owner);
    }
  }
  return empty;
}

std::optional<ByteGrammar::Rule> ByteGrammar::left_recursive_rule() const {
  const std::vector<bool> empty = rules_that_may_be_empty();
  std::vector<std::vector<Edge>> edges(rules_.size());
  for (Rule rule = 0; rule < rules_.size(); ++rule) {
    for (uint32_t at : rules_[rule]) {
      for (; symbols_[at].kind == Symbol::Kind::kRule; ++at) {
        edges[rule].push_back({symbols_[at].index, symbols_[at + 1].kind == Symbol::Kind::kEnd});
        if (!empty[symbols_[at].index]) break;
      }
    }
  }
  const Parts parts(edges);
  for (Rule rule = 0; rule < rules_.size(); ++rule) {
    for (const Edge& edge : edges[rule]) {
      if (!edge.last && parts.together(rule, edge.to)) return rule;
    }
  }
  return std::nullopt;
}

}  // namespace tritllm
