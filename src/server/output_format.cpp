#include "server/output_format.h"

#include <fmt/format.h>

#include <array>
#include <utility>
#include <vector>

#include "sampling/json_schema.h"
#include "sampling/text_grammars.h"
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

enum class Notation { kSchema, kAnyObject, kRegex, kChoice, kGrammar };

struct Form {
  std::string_view name;
  Notation notation;
  std::string_view help;
};
// Of a request itself, and of structured_outputs in it.
constexpr std::array<Form, 5> kForms{{{"guided_json", Notation::kSchema, "A JSON schema that the answer satisfies."},
                                      {"guided_regex", Notation::kRegex, "A regular expression that matches the whole answer."},
                                      {"guided_choice", Notation::kChoice, "Texts of which the answer is one."},
                                      {"guided_grammar", Notation::kGrammar, "A grammar of the answer, in GBNF."},
                                      {"grammar", Notation::kGrammar, "A grammar of the answer, in GBNF."}}};
constexpr std::array<Form, 5> kStructuredForms{{{"json", Notation::kSchema, "A JSON schema that the answer satisfies."},
                                                {"json_object", Notation::kAnyObject, "The answer is any JSON object."},
                                                {"regex", Notation::kRegex, "A regular expression that matches the whole answer."},
                                                {"choice", Notation::kChoice, "Texts of which the answer is one."},
                                                {"grammar", Notation::kGrammar, "A grammar of the answer, in GBNF."}}};
constexpr size_t kMostChoices = 1'000, kMostText = 64 << 10;

RequestField field_of(const Form& form) {
  RequestField field{.name = form.name, .help = form.help};
  switch (form.notation) {
    case Notation::kSchema: field.type = FieldType::kObject; break;
    case Notation::kAnyObject: field.use = FieldUse::kOneValue, field.schema = "true"; break;
    case Notation::kChoice: field.type = FieldType::kTexts, field.least = 1, field.most = kMostChoices; break;
    case Notation::kRegex:
    case Notation::kGrammar: field.type = FieldType::kText, field.least = 1, field.most = kMostText; break;
  }
  return field;
}

std::vector<std::string> texts_of(const JsonView& value) {
  if (value.json().is_string()) return {value.text()};
  std::vector<std::string> texts;
  for (const JsonView& item : value.items()) texts.push_back(item.text());
  return texts;
}

std::shared_ptr<TokenConstraint> constraint_of(Notation notation, const JsonView& value, ServedModel& model) {
  const std::string text = json_line(value.json());
  switch (notation) {
    case Notation::kSchema: return of_schemas({{"", value, ""}}, model);
    case Notation::kAnyObject: return any_object(model);
    case Notation::kRegex: return model.grammars.get("regex " + text, [&] { return regex_grammar(value.text(), value.where()); });
    case Notation::kChoice: return model.grammars.get("choice " + text, [&] { return choice_grammar(texts_of(value)); });
    case Notation::kGrammar:
      return model.grammars.get("grammar " + text, [&] { return gbnf_grammar(value.text(), value.where()); });
  }
  return nullptr;
}

template <size_t N>
void collect(const JsonView& object, const std::array<Form, N>& forms, std::vector<std::pair<Notation, JsonView>>& found) {
  for (const Form& form : forms) {
    if (auto value = object.optional_child(form.name)) found.emplace_back(form.notation, std::move(*value));
  }
}

}  // namespace

FieldTable form_fields() {
  FieldTable table, nested;
  for (const Form& form : kForms) table.push_back(field_of(form));
  for (const Form& form : kStructuredForms) nested.push_back(field_of(form));
  table.push_back(
      {.name = "structured_outputs", .type = FieldType::kObject, .help = "One form of the answer.", .members = {nested}});
  return table;
}

std::shared_ptr<TokenConstraint> read_form(const JsonView& request, ServedModel& model) {
  std::vector<std::pair<Notation, JsonView>> found;
  collect(request, kForms, found);
  if (const auto structured = request.optional_child("structured_outputs")) collect(*structured, kStructuredForms, found);
  std::shared_ptr<TokenConstraint> constraint;
  if (const auto format = request.optional_child("response_format")) constraint = read_format(*format, /*nested=*/true, model);
  if (found.size() + (constraint ? 1 : 0) > 1) found.back().second.refuse("one form of the answer alone");
  return found.empty() ? constraint : constraint_of(found.front().first, found.front().second, model);
}

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
