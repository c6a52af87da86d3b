#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "text/unicode.h"

namespace tritllm {
namespace {

TokenId parse_id(const std::string& content, const Json& value, const std::string& where) {
  const bool is_whole = value.is_number_unsigned() || (value.is_number_integer() && value.get<int64_t>() >= 0);
  if (is_whole && value.get<uint64_t>() <= kLargestTokenId) return value.get<TokenId>();
  throw Error(ErrorCode::kBadInput, where,
              fmt::format("expected for token \"{}\" an id from 0 to {}, found {}", printable(content, 60), kLargestTokenId,
                          printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60)));
}

}  // namespace

Vocabulary Vocabulary::parse(const Component& component) {
  if (!component.json.is_object()) throw Error(ErrorCode::kBadInput, component.where, "expected an object of tokens and ids");
  Vocabulary vocabulary;
  TokenId highest = 0;
  for (const auto& [content, value] : component.json.items()) {
    highest = std::max(highest, parse_id(content, value, component.where));
  }
  if (!component.json.empty()) {
    vocabulary.contents_.resize(highest + 1);
    vocabulary.known_.resize(highest + 1);
  }
  vocabulary.ids_.reserve(component.json.size());
  for (const auto& [content, value] : component.json.items()) {
    const TokenId id = parse_id(content, value, component.where);
    if (vocabulary.known_[id]) {
      throw Error(ErrorCode::kBadInput, component.where,
                  fmt::format("the tokens \"{}\" and \"{}\" have one id, {}", printable(vocabulary.contents_[id], 60),
                              printable(content, 60), id));
    }
    vocabulary.known_[id] = true;
    vocabulary.contents_[id] = content;
    vocabulary.ids_.emplace(vocabulary.contents_[id], id);
  }
  return vocabulary;
}

std::optional<TokenId> Vocabulary::find(std::string_view content) const {
  const auto found = ids_.find(content);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

namespace {

constexpr uint64_t kEmpty = UINT64_MAX;  // no pair: ids stay below 2^20

struct Texts {
  std::string_view left, right;
};

Error bad_merge(const std::string& where, size_t index, const std::string& problem) {
  return Error(ErrorCode::kBadInput, fmt::format("{}/{}", where, index), problem);
}

Texts parse_texts(const Json& entry, const std::string& where, size_t index) {
  if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
    return {entry[0].get_ref<const std::string&>(), entry[1].get_ref<const std::string&>()};
  }
  if (entry.is_string()) {
    const std::string_view text = entry.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  throw bad_merge(where, index, "expected two tokens, as [\"a\", \"b\"] or \"a b\"");
}

TokenId required(const Vocabulary& vocabulary, std::string_view content, const std::string& where, size_t index) {
  if (const auto id = vocabulary.find(content)) return *id;
  throw bad_merge(where, index, fmt::format("the merge names \"{}\", which is not in the vocabulary", printable(content, 60)));
}

}  // namespace

MergeTable MergeTable::parse(const Component& component, const Vocabulary& vocabulary) {
  if (!component.json.is_array()) throw Error(ErrorCode::kBadInput, component.where, "expected an array of merges");
  if (component.json.size() >= UINT32_MAX) throw Error(ErrorCode::kBadInput, component.where, "too many merges");
  MergeTable table;
  table.slots_.assign(std::bit_ceil(component.json.size() * 2 + 1), Slot{kEmpty, {}});
  table.results_.reserve(component.json.size());
  std::string joined;
  size_t index = 0;
  for (const Json& entry : component.json) {
    const size_t here = index++;
    // The first line of a merges.txt, which older files keep.
    if (entry.is_string() && entry.get_ref<const std::string&>().starts_with("#version")) continue;
    const Texts texts = parse_texts(entry, component.where, here);
    joined.assign(texts.left).append(texts.right);
    const TokenId left = required(vocabulary, texts.left, component.where, here);
    const TokenId right = required(vocabulary, texts.right, component.where, here);
    const TokenId result = required(vocabulary, joined, component.where, here);
    table.insert(left, right, {static_cast<uint32_t>(table.results_.size()), result});
    table.results_.push_back(result);
  }
  return table;
}

size_t MergeTable::first_slot(uint64_t pair) const noexcept {
  // The finaliser of MurmurHash3: neighbouring ids must not fall into neighbouring slots.
  uint64_t hash = pair;
  hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdULL;
  hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53ULL;
  return (hash ^ hash >> 33) & (slots_.size() - 1);
}

void MergeTable::insert(TokenId left, TokenId right, Merge merge) {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | right;
  size_t slot = first_slot(pair);
  while (slots_[slot].pair != kEmpty && slots_[slot].pair != pair) slot = (slot + 1) & (slots_.size() - 1);
  // HF tokenizers keeps the last of several merges of one pair.
  slots_[slot] = {pair, merge};
}

const MergeTable::Merge* MergeTable::find(TokenId left, TokenId right) const noexcept {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | right;
  for (size_t slot = first_slot(pair);; slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].pair == pair) return &slots_[slot].merge;
    if (slots_[slot].pair == kEmpty) return nullptr;
  }
}

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
  // The oldest files have no type: they are BPE.
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

// The vocabulary may lack the unknown token that the file names; this matters only if a text has an unknown character.
TokenId Bpe::unknown_token() const {
  if (const auto id = vocabulary_.find(*unknown_)) return *id;
  throw Error(ErrorCode::kBadInput, where_ + "/unk_token",
              fmt::format("the text has a character without a token, and \"{}\" is not in the vocabulary", printable(*unknown_)));
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
