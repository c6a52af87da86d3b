#include "text/tokenizer_parts.h"

#include <fmt/format.h>

#include <algorithm>

namespace tritllm {
namespace {

// More parts than any tokenizer has; each costs a pass over the text.
constexpr size_t kMostParts = 64;

// The recursion is as deep as the document at most, and parse_json bounds that.
void collect(const JsonView& component, std::string_view member, std::vector<JsonView>& parts) {
  if (component.json().is_null()) return;
  if (component.text("type") != "Sequence") {
    if (parts.size() == kMostParts) throw unsupported(component.where(), fmt::format("more than {} parts", kMostParts), "fewer");
    parts.push_back(component);
    return;
  }
  allow_only(component, {"type", member});
  for (const JsonView& part : component.child(member).items()) collect(part, member, parts);
}

}  // namespace

void allow_only(const JsonView& component, std::initializer_list<std::string_view> fields) {
  if (!component.json().is_object()) component.refuse("a JSON object");
  for (const auto& [key, value] : component.json().items()) {
    if (std::ranges::find(fields, key) != fields.end()) continue;
    throw unsupported(component.where(), fmt::format("the unknown field \"{}\"", printable(key)),
                      fmt::format("{}", fmt::join(fields, ", ")));
  }
}

std::vector<JsonView> flatten_sequences(const JsonView& component, std::string_view member) {
  std::vector<JsonView> parts;
  collect(component, member, parts);
  return parts;
}

Error unsupported(const std::string& where, std::string_view found, std::string_view supported) {
  return Error(ErrorCode::kUnsupported, where, fmt::format("found {}; supported: {}", printable(found), supported),
               "use a model whose tokenizer.json has only supported parts (docs/tokenizer.md)");
}

}  // namespace tritllm
