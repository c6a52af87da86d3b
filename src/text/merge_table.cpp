#include "text/merge_table.h"

#include <fmt/format.h>

#include <bit>

namespace tritllm {
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
  // Of a pair that stands twice HF keeps the later place.
  slots_[slot] = {pair, merge};
}

const MergeTable::Merge* MergeTable::find(TokenId left, TokenId right) const noexcept {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | right;
  for (size_t slot = first_slot(pair);; slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].pair == pair) return &slots_[slot].merge;
    if (slots_[slot].pair == kEmpty) return nullptr;
  }
}

}  // namespace tritllm
