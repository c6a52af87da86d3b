#include "text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>

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

}  // namespace tritllm
