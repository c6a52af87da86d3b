#include "sampling/grammar_constraint.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "core/error.h"

namespace tritllm {
namespace {

// 16 KB each at 128,000 tokens.
constexpr size_t kMostMasks = 1024;

uint32_t common_beginning(const std::string& a, const std::string& b) {
  const size_t most = std::min(a.size(), b.size());
  size_t length = 0;
  while (length < most && a[length] == b[length]) ++length;
  return static_cast<uint32_t>(length);
}

void allow(TokenGrammar::Mask& mask, uint32_t token) { mask[token / 64] |= uint64_t{1} << (token % 64); }

}  // namespace

TokenTrie::TokenTrie(std::vector<std::string> tokens, std::vector<uint32_t> end_tokens)
    : tokens_(std::move(tokens)), end_tokens_(std::move(end_tokens)) {
  for (uint32_t token = 0; token < tokens_.size(); ++token) {
    if (!tokens_[token].empty() && !is_end(token)) entries_.push_back({token, 0});
  }
  std::ranges::sort(entries_, {},
                    [&](const Entry& entry) { return std::pair(std::string_view(tokens_[entry.token]), entry.token); });
  for (size_t i = 1; i < entries_.size(); ++i)
    entries_[i].common = common_beginning(tokens_[entries_[i - 1].token], tokens_[entries_[i].token]);
}

bool TokenTrie::is_end(uint32_t token) const noexcept { return std::ranges::find(end_tokens_, token) != end_tokens_.end(); }

const TokenGrammar::Mask& TokenGrammar::allowed(State state) {
  if (const auto found = masks_.find(state); found != masks_.end()) return found->second;
  if (masks_.size() >= kMostMasks) masks_.clear();
  return masks_[state] = compute_allowed(state);
}

TokenGrammar::Mask TokenGrammar::compute_allowed(State state) {
  Mask mask((tokens_->size() + 63) / 64);
  std::vector<State> path{state};  // after each byte of the token before, as far as the grammar goes along
  size_t dead = SIZE_MAX;          // bytes of the token before with which no text goes on
  for (const TokenTrie::Entry& entry : tokens_->entries()) {
    if (entry.common >= dead) continue;
    const std::string& bytes = tokens_->bytes(entry.token);
    path.resize(std::min<size_t>(path.size(), entry.common + 1));
    dead = SIZE_MAX;
    for (size_t at = path.size() - 1; at < bytes.size(); ++at) {
      const State next = automaton_.step(path.back(), static_cast<uint8_t>(bytes[at]));
      if (next == ByteAutomaton::kDead) {
        dead = at + 1;
        break;
      }
      path.push_back(next);
    }
    if (dead == SIZE_MAX) allow(mask, entry.token);
  }
  is_worn_ = automaton_.is_worn();
  if (automaton_.accepts(state)) {
    for (const uint32_t token : tokens_->end_tokens()) allow(mask, token);
  }
  return mask;
}

TokenGrammar::State TokenGrammar::after(State state, uint32_t token) {
  if (tokens_->is_end(token)) return state;
  for (const char byte : tokens_->bytes(token)) state = automaton_.step(state, static_cast<uint8_t>(byte));
  return state;
}

void GrammarConstraint::mask(std::span<float> logits) {
  constexpr float kBanned = -std::numeric_limits<float>::infinity();
  const TokenGrammar::Mask& allowed = grammar_->allowed(state_);
  bool any = false;
  for (size_t word = 0; word * 64 < logits.size(); ++word) {
    const auto part = logits.subspan(word * 64, std::min<size_t>(64, logits.size() - word * 64));
    const uint64_t bits = word < allowed.size() ? allowed[word] : 0;
    any = any || bits != 0;
    if (bits == 0) {
      std::ranges::fill(part, kBanned);
      continue;
    }
    for (uint64_t banned = ~bits; banned != 0; banned &= banned - 1) {
      const auto i = static_cast<size_t>(std::countr_zero(banned));
      if (i < part.size()) part[i] = kBanned;
    }
  }
  if (!any) throw Error(ErrorCode::kUnsupported, "grammar", "no token of the model continues the text as the grammar asks");
}

}  // namespace tritllm
