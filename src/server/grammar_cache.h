// Owns a model's compiled grammars, so that requests with the same schema compile it once. Does not own which grammar a request
// wants (output_format.h).
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "sampling/grammar_constraint.h"
#include "text/tokenizer.h"

namespace tritllm::server {

class GrammarCache {
 public:
  // The tokenizer outlives this.
  GrammarCache(const Tokenizer& tokenizer, std::vector<TokenId> end_tokens)
      : tokenizer_(tokenizer), end_tokens_(std::move(end_tokens)) {}

  // The constraint for the grammar of that name, which `make` writes where it is not known. Thread-safe.
  std::shared_ptr<TokenConstraint> get(const std::string& name, const std::function<ByteGrammar()>& make);

 private:
  const Tokenizer& tokenizer_;
  const std::vector<TokenId> end_tokens_;
  std::mutex mutex_;  // of what follows
  std::shared_ptr<const TokenTrie> tokens_;
  std::list<std::pair<std::string, std::shared_ptr<TokenGrammar>>> grammars_;  // the latest used first
};

}  // namespace tritllm::server
