#include "server/output_format.h"

#include <fmt/format.h>

#include <vector>

#include "sampling/json_schema.h"
#include "server/api_error.h"

namespace tritllm::server {
namespace {

std::shared_ptr<TokenConstraint> any_object(ServedModel& model) {
  return model.grammars.get("any object", [] { return json_object_grammar(); });
}

std::shared_ptr<TokenConstraint> of_schemas(const std::vector<FramedSchema>& schemas, ServedModel& model) {
  std::string name;
  for (const FramedSchema& framed : schemas) name += framed.before + json_line(framed.schema.json()) + framed.after;
  return model.grammars.get(name, [&] { return json_schema_grammar(schemas); });
}

}  // namespace

std::shared_ptr<TokenConstraint> read_format(const JsonView& format, bool nested, ServedModel& model) {
  const std::string type = format.text("type");
  if (type == "text") return nullptr;
  if (type == "json_object") return any_object(model);
  const JsonView holder = nested ? format.child("json_schema") : format;
  return of_schemas({{"", holder.child("schema"), ""}}, model);
}

std::shared_ptr<TokenConstraint> read_plain_format(const JsonView& format, ServedModel& model) {
  if (format.json() == "json") return any_object(model);
  if (!format.json().is_object()) format.refuse("\"json\" or a JSON schema");
  return of_schemas({{"", format, ""}}, model);
}

ToolChoice read_tool_choice(const JsonView& request, bool nested) {
  const auto choice = request.optional_child("tool_choice");
  if (!choice) return {};
  if (choice->json() == "auto") return {};
  if (choice->json() == "none") return {ToolUse::kNone, std::nullopt};
  if (choice->json() == "required") return {ToolUse::kRequired, std::nullopt};
  return {ToolUse::kRequired, (nested ? choice->child("function") : *choice).text("name")};
}

std::shared_ptr<TokenConstraint> call_constraint(const Json& tools, const ToolChoice& choice, ToolFormat format,
                                                 ServedModel& model) {
  const bool tagged = format == ToolFormat::kTagged;
  std::vector<FramedSchema> schemas;
  for (size_t i = 0; i < tools.size(); ++i) {
    const Json& function = tools[i].at("function");
    const Json& name = function.at("name");
    if (choice.name && name != *choice.name) continue;
    const std::string before =
        fmt::format("{}{{\"name\": {}, \"{}\": ", tagged ? "<tool_call>\n" : "", name.dump(), tagged ? "arguments" : "parameters");
    schemas.push_back({before, JsonView(function.at("parameters"), fmt::format("{}: /tools/{}/parameters", kRequestPlace, i)),
                       tagged ? "}\n</tool_call>" : "}"});
  }
  if (schemas.empty()) throw ApiError(400, "tool_choice: no such function is among the tools", "tool_choice", "invalid_value");
  return of_schemas(schemas, model);
}

}  // namespace tritllm::server
