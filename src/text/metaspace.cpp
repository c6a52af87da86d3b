#include "text/metaspace.h"

#include <fmt/format.h>

#include "text/characters.h"

namespace tritllm {
namespace {

PrependScheme parse_scheme(const Component& component) {
  const std::string name = json_optional_string(component.json, "prepend_scheme", component.where).value_or("always");
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  throw unsupported(component.where, fmt::format("the prepend_scheme \"{}\"", name), "always, first, never");
}

}  // namespace

MetaspaceFields parse_metaspace(const Component& component) {
  component.allow_only({"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
  MetaspaceFields fields;
  fields.mark = json_string(component.json, "replacement", component.where);
  if (fields.mark.empty() || character_at(fields.mark, 0).length != fields.mark.size()) {
    throw Error(ErrorCode::kBadInput, component.where,
                fmt::format("expected a replacement of one character, found \"{}\"", printable(fields.mark)));
  }
  fields.prepend = parse_scheme(component);
  // The older field of the same meaning; files that carry both say the same with them.
  if (!json_boolean_or(component.json, "add_prefix_space", true, component.where) && fields.prepend != PrependScheme::kNever) {
    throw Error(ErrorCode::kBadInput, component.where, "add_prefix_space is false, but prepend_scheme is not \"never\"");
  }
  fields.split = json_boolean_or(component.json, "split", true, component.where);
  return fields;
}

}  // namespace tritllm
