#include "server/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "server/api_error.h"

namespace tritllm::server {
namespace {

constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant", "tool"};
// What a template may be told. Other variables would let a request change what the template's author has fixed.
constexpr std::array<std::string_view, 4> kVariables = {"enable_thinking", "thinking", "reasoning_effort", "date_string"};

// Objects of messages are small; one unknown member would change what the model reads, or be lost.
void require_known(const JsonView& object, std::initializer_list<std::string_view> names) {
  for (const auto& [name, value] : object.members()) {
    if (std::ranges::find(names, name) == names.end() && !value.json().is_null()) value.refuse("no such field");
  }
}

std::string text_of_part(const JsonView& part) {
  const std::string type = part.text("type");
  if (type != "text" && type != "input_text" && type != "output_text" && type != "refusal") {
    part.child("type").refuse("\"text\", since this model reads nothing else");
  }
  return part.text(type == "refusal" ? "refusal" : "text");
}

std::string content_of(const JsonView& content) {
  if (content.json().is_string()) return content.text();
  if (!content.json().is_array()) content.refuse("a string or an array of text parts");
  std::string text;
  for (const JsonView& part : content.items()) text += (text.empty() ? "" : "\n") + text_of_part(part);
  return text;
}

Json arguments_of(const JsonView& function) {
  const JsonView arguments = function.child("arguments");
  if (arguments.json().is_object()) return arguments.json();
  Json parsed = Json::object();
  try {
    const std::string text = arguments.text();
    if (!text.empty()) parsed = parse_json(text, "arguments");
  } catch (const Error&) {
    arguments.refuse("the text of a JSON object");
  }
  if (!parsed.is_object()) arguments.refuse("the text of a JSON object");
  return parsed;
}

Json tool_calls_of(const JsonView& calls) {
  Json all = Json::array();
  for (const JsonView& call : calls.items()) {
    require_known(call, {"id", "type", "function", "index"});
    if (call.optional_text("type").value_or("function") != "function") call.child("type").refuse("\"function\"");
    const JsonView function = call.child("function");
    require_known(function, {"name", "arguments"});
    Json entry = {{"type", "function"}, {"function", {{"name", function.text("name")}, {"arguments", arguments_of(function)}}}};
    if (const auto id = call.optional_text("id")) entry["id"] = *id;
    all.push_back(std::move(entry));
  }
  return all;
}

Json read_message(const JsonView& message) {
  require_known(message, {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "refusal", "annotations",
                          "audio", "function_call", "reasoning"});
  std::string role = message.text("role");
  if (std::ranges::find(kRoles, role) == kRoles.end()) message.child("role").refuse("system, developer, user, assistant or tool");
  if (role == "developer") role = "system";
  for (const char* const unread : {"audio", "function_call"}) {
    if (message.has(unread)) message.child(unread).refuse("no such field");
  }
  Json read = {{"role", role}};
  const bool has_calls = role == "assistant" && message.has("tool_calls");
  if (message.has("content")) read["content"] = content_of(message.child("content"));
  else if (has_calls) read["content"] = "";
  else static_cast<void>(message.text("content"));
  for (const char* const name : {"name", "tool_call_id", "reasoning_content"}) {
    if (const auto text = message.optional_text(name)) read[name] = *text;
  }
  if (message.has("tool_calls")) {
    if (!has_calls) message.child("tool_calls").refuse("none in a message of this role");
    read["tool_calls"] = tool_calls_of(message.child("tool_calls"));
  }
  return read;
}

}  // namespace

Json read_messages(const JsonView& messages) {
  const std::vector<JsonView> items = messages.items();
  if (items.empty() || items.size() > kMostMessages) messages.refuse(fmt::format("1 to {} messages", kMostMessages));
  Json all = Json::array();
  for (const JsonView& message : items) all.push_back(read_message(message));
  return all;
}

Json read_tools(const JsonView& request) {
  const auto tools = request.optional_child("tools");
  if (!tools) return nullptr;
  Json all = Json::array();
  for (const JsonView& tool : tools->items()) {
    if (tool.text("type") != "function") tool.child("type").refuse("\"function\"");
    const JsonView function = tool.child("function");
    require_known(function, {"name", "description", "parameters", "strict"});
    if (function.optional_boolean("strict").value_or(false))
      function.child("strict").refuse("false, since calls are not constrained");
    Json entry = {{"name", function.text("name")}};
    entry["description"] = function.optional_text("description").value_or("");
    entry["parameters"] =
        function.has("parameters") ? function.child("parameters").json() : Json{{"type", "object"}, {"properties", Json::object()}};
    if (!entry["parameters"].is_object()) function.child("parameters").refuse("a JSON schema, an object");
    all.push_back({{"type", "function"}, {"function", std::move(entry)}});
  }
  return all.empty() ? Json(nullptr) : all;
}

Json read_template_variables(const JsonView& request, const ServedModel& model) {
  Json variables = Json::object();
  if (const auto given = request.optional_child("chat_template_kwargs")) {
    for (const auto& [name, value] : given->members()) {
      if (std::ranges::find(kVariables, name) == kVariables.end())
        value.refuse(fmt::format("one of {}", fmt::join(kVariables, ", ")));
      variables[name] = value.json();
    }
  }
  if (const auto effort = request.optional_text("reasoning_effort")) variables["reasoning_effort"] = *effort;
  for (const auto& [name, value] : variables.items()) {
    if (model.language.chat_templates().default_source().find(name) != std::string_view::npos) continue;
    throw ApiError(400, fmt::format("{}: the model's chat template does not know it", name), name, "unsupported_parameter");
  }
  return variables;
}

}  // namespace tritllm::server
