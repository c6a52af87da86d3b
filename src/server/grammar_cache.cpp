#include "server/grammar_cache.h"

#include <algorithm>

namespace tritllm::server {
namespace {

// Each may grow to some 50 MB while it is used.
constexpr size_t kMostGrammars = 4;

std::shared_ptr<const TokenTrie> trie_of(const Tokenizer& tokenizer, const std::vector<TokenId>& end_tokens) {
  std::vector<std::string> tokens(tokenizer.vocabulary_size());
  for (TokenId token = 0; token < tokens.size(); ++token) {
    if (tokenizer.is_known(token) && !tokenizer.is_special(token)) tokens[token] = tokenizer.token_bytes(token);
  }
  return std::make_shared<TokenTrie>(std::move(tokens), end_tokens);
}

}  // namespace

std::shared_ptr<TokenConstraint> GrammarCache::get(const std::string& name, const std::function<ByteGrammar()>& make) {
  const std::lock_guard lock(mutex_);
  auto found = std::ranges::find(grammars_, name, &decltype(grammars_)::value_type::first);
  if (found != grammars_.end() && found->second->is_worn()) {
    grammars_.erase(found);  // answers that use it keep it
    found = grammars_.end();
  }
  if (found == grammars_.end()) {
    if (!tokens_) tokens_ = trie_of(tokenizer_, end_tokens_);
    grammars_.emplace_front(name, std::make_shared<TokenGrammar>(tokens_, make()));
    if (grammars_.size() > kMostGrammars) grammars_.pop_back();
    found = grammars_.begin();
  }
  grammars_.splice(grammars_.begin(), grammars_, found);
  return std::make_shared<GrammarConstraint>(grammars_.front().second);
}

}  // namespace tritllm::server
