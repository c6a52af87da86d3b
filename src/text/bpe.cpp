#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/characters.h"

namespace tritllm {
namespace {

constexpr uint32_t kNone = UINT32_MAX;     // no symbol, no token
constexpr uint32_t kTwoByteLimit = 0x800;  // code points below it take two bytes at most

// Words repeat; a cache of this size holds those of a long text and stays small for a hostile one.
constexpr size_t kLongestCachedWord = 64;
constexpr size_t kMostCachedWords = 1 << 16;

void refuse_affix(const Component& component, std::string_view key) {
  const auto affix = json_optional_string(component.json, key, component.where);
  if (affix && !affix->empty()) {
    throw unsupported(fmt::format("{}/{}", component.where, key), fmt::format("\"{}\"", *affix), "null or \"\"");
  }
}

void refuse_dropout(const Component& component) {
  const auto dropout = component.json.find("dropout");
  if (dropout == component.json.end() || dropout->is_null()) return;
  if (dropout->is_number() && dropout->get<double>() == 0) return;
  throw unsupported(component.where + "/dropout", "merges that are left out at random", "null or 0");
}

}  // namespace

Bpe Bpe::parse(const Component& component) {
  if (!component.json.is_object()) throw Error(ErrorCode::kBadInput, component.where, "expected a JSON object");
  // The oldest files name no type, and theirs is this one.
  const std::string type = json_optional_string(component.json, "type", component.where).value_or("BPE");
  if (type != "BPE") throw unsupported(component.where, fmt::format("the model \"{}\"", type), "BPE");
  component.allow_only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                        "byte_fallback", "ignore_merges", "vocab", "merges"});
  Bpe bpe;
  bpe.where_ = component.where;
  bpe.vocabulary_ = Vocabulary::parse(component.child("vocab"));
  bpe.merges_ = MergeTable::parse(component.child("merges"), bpe.vocabulary_);
  bpe.parse_flags(component);
  bpe.read_character_tokens();
  return bpe;
}

void Bpe::parse_flags(const Component& component) {
  refuse_dropout(component);
  refuse_affix(component, "continuing_subword_prefix");
  refuse_affix(component, "end_of_word_suffix");
  unknown_ = json_optional_string(component.json, "unk_token", component.where);
  fuses_unknown_ = json_boolean_or(component.json, "fuse_unk", false, component.where);
  ignores_merges_ = json_boolean_or(component.json, "ignore_merges", false, component.where);
  if (json_boolean_or(component.json, "byte_fallback", false, component.where)) read_byte_tokens();
}

void Bpe::read_byte_tokens() {
  byte_tokens_.resize(256);
  for (unsigned byte = 0; byte < 256; ++byte)
    byte_tokens_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte)).value_or(kNone);
}

void Bpe::read_character_tokens() {
  character_tokens_.assign(kTwoByteLimit, kNone);
  for (uint32_t code_point = 0; code_point < kTwoByteLimit; ++code_point) {
    std::string text;
    append_character(text, code_point);
    if (const auto id = vocabulary_.find(text)) character_tokens_[code_point] = *id;
  }
}

TokenId Bpe::character_token(std::string_view character) const {
  const uint32_t code_point = character_at(character, 0).code_point;
  return code_point < kTwoByteLimit ? character_tokens_[code_point] : vocabulary_.find(character).value_or(kNone);
}

void Bpe::encode(std::string_view word, BpeScratch& scratch, std::vector<TokenId>& out) const {
  if (word.empty()) return;
  if (ignores_merges_) {
    if (const auto whole = vocabulary_.find(word)) return out.push_back(*whole);
  }
  const bool may_cache = word.size() <= kLongestCachedWord;
  if (may_cache) {
    if (const auto found = scratch.cache_.find(word); found != scratch.cache_.end()) {
      const auto begin = scratch.cached_ids_.begin() + static_cast<std::ptrdiff_t>(found->second.begin);
      out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(found->second.count));
      return;
    }
  }
  merge_word(word, scratch);
  const size_t begin = out.size();
  for (uint32_t at = scratch.symbols_.empty() ? kNone : 0; at != kNone; at = scratch.symbols_[at].next) {
    out.push_back(scratch.symbols_[at].id);
  }
  if (may_cache && scratch.cache_.size() < kMostCachedWords) {
    scratch.cache_.emplace(word, BpeScratch::CachedWord{scratch.cached_ids_.size(), out.size() - begin});
    scratch.cached_ids_.insert(scratch.cached_ids_.end(), out.begin() + static_cast<std::ptrdiff_t>(begin), out.end());
  }
}

void Bpe::merge_word(std::string_view word, BpeScratch& scratch) const {
  split_characters(word, scratch);
  auto& symbols = scratch.symbols_;
  for (uint32_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = i == 0 ? kNone : i - 1;
    symbols[i].next = i + 1 == symbols.size() ? kNone : i + 1;
  }
  merge_all(scratch);
}

// A run of unknown characters waits until a known one ends it: then it is one unknown token or, unless they fuse, the last of
// several. Bytes of byte_fallback do not end it, so they come before it, as in HF tokenizers.
void Bpe::split_characters(std::string_view word, BpeScratch& scratch) const {
  scratch.symbols_.clear();
  TokenId pending = kNone;
  const auto flush = [&] {
    if (pending != kNone) scratch.symbols_.push_back({pending, kNone, kNone});
    pending = kNone;
  };
  for (size_t at = 0; at < word.size();) {
    const std::string_view character = word.substr(at, character_at(word, at).length);
    at += character.size();
    if (const TokenId id = character_token(character); id != kNone) {
      flush();
      scratch.symbols_.push_back({id, kNone, kNone});
    } else if (!append_bytes(character, scratch) && unknown_) {
      if (!fuses_unknown_) flush();
      pending = unknown_token();
    }
  }
  flush();
}

bool Bpe::append_bytes(std::string_view character, BpeScratch& scratch) const {
  if (byte_tokens_.empty()) return false;
  const auto token_of = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (std::ranges::any_of(character, [&](char byte) { return token_of(byte) == kNone; })) return false;
  for (const char byte : character) scratch.symbols_.push_back({token_of(byte), kNone, kNone});
  return true;
}

// Files may name an unknown token that the vocabulary lacks, and do where every character is known.
TokenId Bpe::unknown_token() const {
  if (const auto id = vocabulary_.find(*unknown_)) return *id;
  throw Error(ErrorCode::kBadInput, where_ + "/unk_token",
              fmt::format("the text has a character that is no token, and \"{}\" is not in the vocabulary", printable(*unknown_)));
}

void Bpe::propose(uint32_t left, BpeScratch& scratch, std::vector<uint64_t>& candidates) const {
  const auto& symbols = scratch.symbols_;
  if (left == kNone || symbols[left].next == kNone) return;
  const auto* merge = merges_.find(symbols[left].id, symbols[symbols[left].next].id);
  if (merge != nullptr) candidates.push_back(static_cast<uint64_t>(merge->rank) << 32 | left);
}

// Always the pair of the lowest rank and, of several, the leftmost. Candidates that come up while merging go to a heap; whenever
// the sorted ones are used up, the heap is sorted and takes their place, so that long words are walked in order of memory.
void Bpe::merge_all(BpeScratch& scratch) const {
  auto& sorted = scratch.sorted_;
  auto& heap = scratch.heap_;
  sorted.clear();
  heap.clear();
  for (uint32_t left = 0; left + 1 < scratch.symbols_.size(); ++left) propose(left, scratch, sorted);
  while (!sorted.empty()) {
    std::ranges::sort(sorted);
    for (size_t next = 0; next < sorted.size();) {
      if (heap.empty() || sorted[next] <= heap.front()) {
        merge_at(sorted[next++], scratch);
        continue;
      }
      std::ranges::pop_heap(heap, std::greater<>());
      const uint64_t candidate = heap.back();
      heap.pop_back();
      merge_at(candidate, scratch);
    }
    sorted.clear();
    std::swap(sorted, heap);
  }
}

void Bpe::merge_at(uint64_t candidate, BpeScratch& scratch) const {
  auto& symbols = scratch.symbols_;
  const auto at = static_cast<uint32_t>(candidate);
  BpeScratch::Symbol& left = symbols[at];
  if (left.id == kNone || left.next == kNone) return;
  BpeScratch::Symbol& right = symbols[left.next];
  const TokenId result = merges_.result_of(static_cast<uint32_t>(candidate >> 32));
  const auto* merge = merges_.find(left.id, right.id);
  // The candidate may be older than a merge that took one of its two symbols.
  if (merge == nullptr || merge->result != result) return;
  left.id = result;
  left.next = right.next;
  right.id = kNone;
  if (left.next != kNone) symbols[left.next].previous = at;
  for (const uint32_t first : {left.previous, at}) {
    const size_t before = scratch.heap_.size();
    propose(first, scratch, scratch.heap_);
    if (scratch.heap_.size() > before) std::ranges::push_heap(scratch.heap_, std::greater<>());
  }
}

}  // namespace tritllm
