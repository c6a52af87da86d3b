#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "text/unicode.h"

namespace tritllm {
namespace {

TokenId parse_id(std::string_view content, const Json& value, const std::string& where) {
  const bool is_whole = value.is_number_unsigned() || (value.is_number_integer() && value.get<int64_t>() >= 0);
  if (is_whole && value.get<uint64_t>() <= kLargestTokenId) return value.get<TokenId>();
  throw Error(ErrorCode::kBadInput, where,
              fmt::format("expected for token \"{}\" an id from 0 to {}, found {}", printable(content, 60), kLargestTokenId,
                          printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60)));
}

}  // namespace

void Vocabulary::add(std::string_view content, const Json& id_value, const std::string& where) {
  const TokenId id = parse_id(content, id_value, where);
  if (id >= contents_.size()) {
    contents_.resize(id + 1);
    known_.resize(id + 1);
  }
  if (known_[id]) {
    throw Error(
        ErrorCode::kBadInput, where,
        fmt::format("the tokens \"{}\" and \"{}\" have one id, {}", printable(contents_[id], 60), printable(content, 60), id));
  }
  known_[id] = true;
  contents_[id] = content;
}

void Vocabulary::finish(const std::string& where) {
  ids_.reserve(contents_.size());
  for (TokenId id = 0; id < contents_.size(); ++id) {
    if (!known_[id] || ids_.emplace(contents_[id], id).second) continue;
    throw Error(ErrorCode::kBadInput, where,
                fmt::format("the key \"{}\" stands twice in one JSON object", printable(contents_[id], 60)));
  }
}

std::optional<TokenId> Vocabulary::find(std::string_view content) const {
  const auto found = ids_.find(content);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

namespace {

constexpr uint64_t kEmpty = UINT64_MAX;  // no pair: ids stay below 2^20

// Three times as many as the largest vocabularies have.
constexpr size_t kMostMerges = 4'194'304;

Error bad_merge(const std::string& where, size_t index, const std::string& problem) {
  return Error(ErrorCode::kBadInput, fmt::format("{}/{}", where, index), problem);
}

std::optional<MergeList::Pair> pair_of(const Json& element) {
  if (element.is_array() && element.size() == 2 && element[0].is_string() && element[1].is_string()) {
    return MergeList::Pair{element[0].get_ref<const std::string&>(), element[1].get_ref<const std::string&>()};
  }
  if (!element.is_string()) return std::nullopt;
  const std::string_view text = element.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) return std::nullopt;
  return MergeList::Pair{text.substr(0, space), text.substr(space + 1)};
}

TokenId required(const Vocabulary& vocabulary, std::string_view content, const std::string& where, size_t index) {
  if (const auto id = vocabulary.find(content)) return *id;
  throw bad_merge(where, index, fmt::format("the merge names \"{}\", which is not in the vocabulary", printable(content, 60)));
}

}  // namespace

void MergeList::add(const Json& element, const std::string& where) {
  const size_t index = elements_++;
  // The first line of a merges.txt, which older files keep.
  if (element.is_string() && element.get_ref<const std::string&>().starts_with("#version")) return;
  const auto pair = pair_of(element);
  if (!pair) throw bad_merge(where, index, "expected two tokens, as [\"a\", \"b\"] or \"a b\"");
  if (ends_.size() == kMostMerges) throw bad_merge(where, index, fmt::format("more than {} merges", kMostMerges));
  texts_.append(pair->left);
  const size_t left = texts_.size();
  texts_.append(pair->right);
  ends_.push_back({left, texts_.size()});
}

MergeList::Pair MergeList::operator[](size_t index) const noexcept {
  const std::string_view texts = texts_;
  const size_t begin = index == 0 ? 0 : ends_[index - 1].right;
  const auto [left, right] = ends_[index];
  return {texts.substr(begin, left - begin), texts.substr(left, right - left)};
}

MergeTable::MergeTable(const MergeList& merges, const Vocabulary& vocabulary, const std::string& where)
    : slots_(std::bit_ceil(merges.count() * 2 + 1), Slot{kEmpty, {}}) {
  results_.reserve(merges.count());
  std::string joined;
  for (size_t index = 0; index < merges.count(); ++index) {
    const auto [left_text, right_text] = merges[index];
    joined.assign(left_text).append(right_text);
    const TokenId left = required(vocabulary, left_text, where, index);
    const TokenId right = required(vocabulary, right_text, where, index);
    const TokenId result = required(vocabulary, joined, where, index);
    insert(left, right, {static_cast<uint32_t>(index), result});
    results_.push_back(result);
  }
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

void refuse_affix(const JsonView& component, std::string_view key) {
  const auto affix = component.optional_text(key);
  if (affix && !affix->empty()) {
    throw unsupported(fmt::format("{}/{}", component.where(), key), fmt::format("\"{}\"", *affix), "null or \"\"");
  }
}

void refuse_dropout(const JsonView& component) {
  const auto dropout = component.json().find("dropout");
  if (dropout == component.json().end() || dropout->is_null()) return;
  if (dropout->is_number() && dropout->get<double>() == 0) return;
  throw unsupported(component.where() + "/dropout", "merges that are left out at random", "null or 0");
}

}  // namespace

Bpe Bpe::parse(const JsonView& component, Vocabulary vocabulary, const MergeList& merges) {
  if (!component.json().is_object()) component.refuse("a JSON object");
  // The oldest files have no type: they are BPE.
  const std::string type = component.optional_text("type").value_or("BPE");
  if (type != "BPE") throw unsupported(component.where(), fmt::format("the model \"{}\"", type), "BPE");
  allow_only(component, {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                         "byte_fallback", "ignore_merges", "vocab", "merges"});
  Bpe bpe;
  bpe.where_ = component.where();
  if (const JsonView field = component.child("vocab"); !field.json().is_object()) field.refuse("an object of tokens and ids");
  const JsonView merges_field = component.child("merges");
  if (!merges_field.json().is_array()) merges_field.refuse("an array of merges");
  bpe.vocabulary_ = std::move(vocabulary);
  bpe.merges_ = MergeTable(merges, bpe.vocabulary_, merges_field.where());
  bpe.parse_flags(component);
  bpe.read_character_tokens();
  return bpe;
}

void Bpe::parse_flags(const JsonView& component) {
  refuse_dropout(component);
  refuse_affix(component, "continuing_subword_prefix");
  refuse_affix(component, "end_of_word_suffix");
  unknown_ = component.optional_text("unk_token");
  fuses_unknown_ = component.boolean_or("fuse_unk", false);
  ignores_merges_ = component.boolean_or("ignore_merges", false);
  if (component.boolean_or("byte_fallback", false)) read_byte_tokens();
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
