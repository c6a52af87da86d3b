#include "text/component.h"

#include <fmt/format.h>

#include <algorithm>

namespace tritllm {
namespace {

// More parts than any tokenizer has; each costs a pass over the text.
constexpr size_t kMostParts = 64;

void collect(const Component& component, std::string_view member, std::vector<Component>& parts) {
  if (component.json.is_null()) return;
  if (component.type() != "Sequence") {
    if (parts.size() == kMostParts) throw unsupported(component.where, fmt::format("more than {} parts", kMostParts), "fewer");
    parts.push_back(component);
    return;
  }
  component.allow_only({"type", member});
  const Component members = component.child(member);
  if (!members.json.is_array()) throw Error(ErrorCode::kBadInput, members.where, "expected an array");
  size_t index = 0;
  // The recursion is as deep as the document at most, and parse_json bounds that.
  for (const Json& part : members.json) collect({part, fmt::format("{}/{}", members.where, index++)}, member, parts);
}

}  // namespace

Component Component::child(std::string_view key) const { return {json_field(json, key, where), fmt::format("{}/{}", where, key)}; }

void Component::allow_only(std::initializer_list<std::string_view> fields) const {
  if (!json.is_object()) throw Error(ErrorCode::kBadInput, where, "expected a JSON object");
  for (const auto& [key, value] : json.items()) {
    if (std::ranges::find(fields, key) != fields.end()) continue;
    throw unsupported(where, fmt::format("the unknown field \"{}\"", printable(key)), fmt::format("{}", fmt::join(fields, ", ")));
  }
}

std::vector<Component> flatten_sequences(const Component& component, std::string_view member) {
  std::vector<Component> parts;
  collect(component, member, parts);
  return parts;
}

Error unsupported(const std::string& where, std::string_view found, std::string_view supported) {
  return Error(ErrorCode::kUnsupported, where, fmt::format("found {}; supported: {}", printable(found), supported),
               "use a model whose tokenizer.json has only supported parts (docs/tokenizer.md)");
}

}  // namespace tritllm
