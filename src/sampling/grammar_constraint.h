// Owns the tokens that may come next in a text of a grammar. Does not own grammars (byte_grammar.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "sampling/byte_grammar.h"
#include "sampling/token_constraint.h"

namespace tritllm {

// The tokens of a model in the order of their bytes, in which tokens that begin alike stand together: a walk over them is a walk
// over their trie.
class TokenTrie {
 public:
  // The bytes of each token; empty for one that never stands in a text. `end_tokens` end an answer.
  TokenTrie(std::vector<std::string> tokens, std::vector<uint32_t> end_tokens);

  struct Entry {
    uint32_t token;
    uint32_t common;  // bytes that it begins with like the entry before
  };
  const std::vector<Entry>& entries() const noexcept { return entries_; }
  const std::string& bytes(uint32_t token) const noexcept { return tokens_[token]; }
  size_t size() const noexcept { return tokens_.size(); }
  const std::vector<uint32_t>& end_tokens() const noexcept { return end_tokens_; }
  bool is_end(uint32_t token) const noexcept;

 private:
  std::vector<std::string> tokens_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> end_tokens_;
};

// A grammar over a model's tokens. The tokens that a state allows are found once and kept: a look-up for each later token of a
// string, a number or a key. Used by one thread at a time, the engine's.
class TokenGrammar {
 public:
  TokenGrammar(std::shared_ptr<const TokenTrie> tokens, ByteGrammar grammar)
      : tokens_(std::move(tokens)), automaton_(std::move(grammar)) {}

  using State = ByteAutomaton::State;
  using Mask = std::vector<uint64_t>;  // a bit for each token
  State start() const noexcept { return automaton_.start(); }
  const Mask& allowed(State state);
  State after(State state, uint32_t token);
  // Whether half of what an automaton may hold is used up: later answers had better begin with a fresh one. Thread-safe.
  bool is_worn() const noexcept { return is_worn_; }

 private:
  Mask compute_allowed(State state);

  const std::shared_ptr<const TokenTrie> tokens_;
  ByteAutomaton automaton_;
  std::unordered_map<State, Mask> masks_;
  std::atomic<bool> is_worn_{false};
};

class GrammarConstraint final : public TokenConstraint {
 public:
  explicit GrammarConstraint(std::shared_ptr<TokenGrammar> grammar) : grammar_(std::move(grammar)), state_(grammar_->start()) {}
  void mask(std::span<float> logits) override;
  void accept(uint32_t token) override { state_ = grammar_->after(state_, token); }
  std::shared_ptr<TokenConstraint> fresh() const override { return std::make_shared<GrammarConstraint>(grammar_); }

 private:
  const std::shared_ptr<TokenGrammar> grammar_;
  TokenGrammar::State state_;
};

}  // namespace tritllm
