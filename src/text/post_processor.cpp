#include "text/post_processor.h"

#include <cstdint>

#include <fmt/format.h>

namespace tritllm {
namespace {

constexpr size_t kMostTokens = 1024;

// The ids that a template's special token stands for.
std::vector<TokenId> special_ids(const Component& tokens, const std::string& name, const std::function<bool(TokenId)>& is_known) {
  const Component entry = tokens.child(name);
  const Component ids = entry.child("ids");
  if (!ids.json.is_array() || ids.json.size() > kMostTokens)
    throw Error(ErrorCode::kBadInput, ids.where, "expected an array of ids");
  std::vector<TokenId> result;
  for (const Json& id : ids.json) {
    const bool is_whole = id.is_number_unsigned() || (id.is_number_integer() && id.get<int64_t>() >= 0);
    if (!is_whole || id.get<uint64_t>() > kLargestTokenId || !is_known(id.get<TokenId>())) {
      throw Error(ErrorCode::kBadInput, ids.where, "an id that no token has");
    }
    result.push_back(id.get<TokenId>());
  }
  return result;
}

PostProcessor parse_template(const Component& component, const std::function<bool(TokenId)>& is_known) {
  component.allow_only({"type", "single", "pair", "special_tokens"});
  const Component single = component.child("single");
  const Component tokens = component.child("special_tokens");
  if (!single.json.is_array()) throw Error(ErrorCode::kBadInput, single.where, "expected an array of pieces");
  PostProcessor result;
  bool has_text = false;
  for (const Json& piece : single.json) {
    const Component part{piece, single.where};
    part.allow_only({"Sequence", "SpecialToken"});
    if (piece.contains("Sequence")) {
      const Component sequence = part.child("Sequence");
      const std::string name = json_string(sequence.json, "id", sequence.where);
      if (name != "A" || has_text) throw unsupported(single.where, "a template that holds more than one text", "one text, \"A\"");
      has_text = true;
      continue;
    }
    const Component token = part.child("SpecialToken");
    auto& side = has_text ? result.suffix : result.prefix;
    for (const TokenId id : special_ids(tokens, json_string(token.json, "id", token.where), is_known)) side.push_back(id);
    if (side.size() > kMostTokens) throw unsupported(single.where, fmt::format("more than {} tokens", kMostTokens), "fewer");
  }
  if (!has_text) throw Error(ErrorCode::kBadInput, single.where, "expected a template that holds the text \"A\"");
  return result;
}

}  // namespace

PostProcessor PostProcessor::parse(const Component& component, const std::function<bool(TokenId)>& is_known) {
  PostProcessor result;
  bool has_template = false;
  for (const Component& part : flatten_sequences(component, "processors")) {
    const std::string type = part.type();
    if (type == "ByteLevel") {
      // It trims the places of tokens in the text, which nothing here reports.
      part.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    } else if (type != "TemplateProcessing") {
      throw unsupported(part.where, fmt::format("the post-processor \"{}\"", type), "TemplateProcessing, ByteLevel, Sequence");
    } else if (has_template) {
      throw unsupported(part.where, "a second template", "one template");
    } else {
      has_template = true;
      result = parse_template(part, is_known);
    }
  }
  return result;
}

}  // namespace tritllm
