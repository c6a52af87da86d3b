#include "server/message_fields.h"

#include <utility>

namespace tritllm::server {
namespace {

constexpr auto kText = FieldType::kText;

RequestField type_field(std::vector<std::string_view> words, bool required = true) {
  return {.name = "type", .type = kText, .required = required, .words = std::move(words)};
}
RequestField label(std::string_view name, FieldType type = FieldType::kAny) {
  return {.name = name, .type = type, .use = FieldUse::kWithoutEffect};
}

FieldTable function_fields() {
  return {{.name = "name", .type = kText, .help = "What a call names.", .required = true},
          {.name = "description", .type = kText, .help = "What the model is told of it."},
          {.name = "parameters", .type = FieldType::kObject, .help = "A JSON schema of the arguments."},
          {.name = "strict", .type = FieldType::kBoolean, .help = "true only with a tool_choice that requires a call."}};
}

FieldTable schema_fields() {
  return {
      {.name = "name", .type = kText, .use = FieldUse::kWithoutEffect},
      {.name = "description", .type = kText, .use = FieldUse::kWithoutEffect},
      {.name = "schema", .type = FieldType::kObject, .help = "A JSON schema that the answer satisfies.", .required = true},
      {.name = "strict", .type = FieldType::kBoolean, .help = "Every schema is held strictly.", .use = FieldUse::kWithoutEffect}};
}

}  // namespace

RequestField content_field(std::vector<std::string_view> words) {
  return {.name = "content",
          .type = FieldType::kTextOrArray,
          .help = "A text, or parts that are texts.",
          .members = {{type_field(std::move(words)),
                       {.name = "text", .type = kText, .help = "The text.", .required = true},
                       // What a server tells about a text that it wrote, and a hint to caches.
                       label("annotations", FieldType::kArray),
                       label("logprobs"),
                       label("cache_control")},
                      {type_field({"refusal"}), {.name = "refusal", .type = kText, .help = "The text.", .required = true}}}};
}

RequestField tool_calls_field() {
  const FieldTable function = {
      {.name = "name", .type = kText, .required = true},
      {.name = "arguments", .type = FieldType::kTextOrObject, .help = "A JSON object, or the text of one.", .required = true}};
  return {.name = "tool_calls",
          .type = FieldType::kArray,
          .help = "Calls that the assistant has made.",
          .members = {{type_field({"function"}, /*required=*/false),
                       {.name = "id", .type = kText},
                       {.name = "function", .type = FieldType::kObject, .required = true, .members = {function}},
                       label("index", FieldType::kInteger)}}};
}

RequestField messages_field() {
  FieldTable message = {
      {.name = "role", .type = kText, .required = true, .words = {"system", "developer", "user", "assistant", "tool"}},
      content_field({"text", "input_text", "output_text"}),
      {.name = "name", .type = kText, .help = "Of a person or a function."},
      tool_calls_field(),
      {.name = "tool_call_id", .type = kText, .help = "The call that a tool's message answers."},
      {.name = "reasoning_content", .type = kText, .help = "What the assistant thought."},
      {.name = "reasoning", .type = kText, .help = "Another name for reasoning_content."},
      {.name = "refusal", .type = kText, .help = "The assistant's text, where it has no content."},
      label("annotations", FieldType::kArray)};
  return {.name = "messages",
          .type = FieldType::kArray,
          .help = "The conversation.",
          .least = 1,
          .most = kMostMessages,
          .members = {std::move(message)}};
}

RequestField tools_field(bool nested) {
  RequestField field{.name = "tools", .type = FieldType::kArray, .help = "Functions that the model may call.", .most = kMostTools};
  if (nested) {
    field.members = {{type_field({"function"}),
                      {.name = "function", .type = FieldType::kObject, .required = true, .members = {function_fields()}}}};
  } else {
    field.members = {joined({{type_field({"function"})}, function_fields()})};
  }
  return field;
}

RequestField tool_choice_field(bool nested) {
  const RequestField name{.name = "name", .type = kText, .help = "The function that has to be called.", .required = true};
  RequestField field{.name = "tool_choice",
                     .type = FieldType::kTextOrObject,
                     .help = "Whether functions are called, or the one that has to be.",
                     .words = {"auto", "none", "required"}};
  if (nested) {
    field.members = {
        {type_field({"function"}), {.name = "function", .type = FieldType::kObject, .required = true, .members = {{name}}}}};
  } else {
    field.members = {{type_field({"function"}), name}};
  }
  return field;
}

RequestField format_field(std::string_view name, bool nested) {
  RequestField field{.name = name, .type = FieldType::kObject, .help = "The form of the answer."};
  field.members = {{type_field({"text"})}, {type_field({"json_object"})}};
  if (nested) {
    field.members.push_back({type_field({"json_schema"}),
                             {.name = "json_schema", .type = FieldType::kObject, .required = true, .members = {schema_fields()}}});
  } else {
    field.members.push_back(joined({{type_field({"json_schema"})}, schema_fields()}));
  }
  return field;
}

RequestField template_variables_field() {
  return {.name = "chat_template_kwargs",
          .type = FieldType::kObject,
          .help = "Variables for the chat template, where it knows them.",
          .members = {{{.name = "enable_thinking", .type = FieldType::kBoolean},
                       {.name = "thinking", .type = FieldType::kBoolean},
                       {.name = "reasoning_effort", .type = kText, .least = 1, .most = 20},
                       {.name = "date_string", .type = kText, .least = 1, .most = 100}}}};
}

}  // namespace tritllm::server
