#include "server/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "server/api_error.h"

namespace tritllm::server {
namespace {

// Fields of a message that belong to one role.
struct OwnField {
  std::string_view name, role;
};
constexpr std::array<OwnField, 5> kOwnFields{{{"tool_calls", "assistant"},
                                              {"reasoning_content", "assistant"},
                                              {"reasoning", "assistant"},
                                              {"refusal", "assistant"},
                                              {"tool_call_id", "tool"}}};

std::string text_of_part(const JsonView& part) { return part.text(part.text("type") == "refusal" ? "refusal" : "text"); }

std::string content_of(const JsonView& content) {
  if (content.json().is_string()) return content.text();
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
    const JsonView function = call.child("function");
    Json entry = {{"type", "function"}, {"function", {{"name", function.text("name")}, {"arguments", arguments_of(function)}}}};
    if (const auto id = call.optional_text("id")) entry["id"] = *id;
    all.push_back(std::move(entry));
  }
  return all;
}

void require_role(const JsonView& message, const std::string& role) {
  for (const auto& [name, owner] : kOwnFields) {
    if (role != owner && message.has(name)) message.child(name).refuse(fmt::format("none but in a message of the {}", owner));
  }
}

std::string content_of_message(const JsonView& message) {
  if (message.has("content")) return content_of(message.child("content"));
  if (message.has("tool_calls")) return "";
  if (const auto refusal = message.optional_text("refusal")) return *refusal;
  return message.text("content");  // which says that it is missing
}

Json read_message(const JsonView& message) {
  const std::string role = message.text("role");
  require_role(message, role);
  Json read = {{"role", role == "developer" ? "system" : role}, {"content", content_of_message(message)}};
  for (const char* const name : {"name", "tool_call_id", "reasoning_content"}) {
    if (const auto text = message.optional_text(name)) read[name] = *text;
  }
  if (const auto reasoning = message.optional_text("reasoning")) {
    if (read.contains("reasoning_content")) message.child("reasoning").refuse("either this or reasoning_content");
    read["reasoning_content"] = *reasoning;
  }
  if (message.has("tool_calls")) read["tool_calls"] = tool_calls_of(message.child("tool_calls"));
  return read;
}

}  // namespace

Json read_messages(const JsonView& messages) {
  Json all = Json::array();
  for (const JsonView& message : messages.items()) all.push_back(read_message(message));
  return all;
}

Json read_function(const JsonView& function, bool constrained) {
  if (!constrained && function.optional_boolean("strict").value_or(false))
    function.child("strict").refuse("false, or a tool_choice that requires a call: other calls are not constrained");
  const Json none = {{"type", "object"}, {"properties", Json::object()}};
  return {{"type", "function"},
          {"function",
           {{"name", function.text("name")},
            {"description", function.optional_text("description").value_or("")},
            {"parameters", function.has("parameters") ? function.child("parameters").json() : none}}}};
}

Json read_tools(const JsonView& request, bool constrained) {
  const auto tools = request.optional_child("tools");
  if (!tools) return nullptr;
  Json all = Json::array();
  for (const JsonView& tool : tools->items()) all.push_back(read_function(tool.child("function"), constrained));
  return all.empty() ? Json(nullptr) : all;
}

Json read_template_variables(const JsonView& request, const ServedModel& model) {
  Json variables = Json::object();
  if (const auto given = request.optional_child("chat_template_kwargs")) {
    for (const auto& [name, value] : given->members()) {
      if (!value.json().is_null()) variables[name] = value.json();
    }
  }
  if (const auto effort = request.optional_text("reasoning_effort")) variables["reasoning_effort"] = *effort;
  for (const auto& [name, value] : variables.items()) {
    const ChatTemplates& templates = model.language.chat_templates();
    const auto knows = [&templates](bool with_tools, std::string_view variable) {
      return templates.source(with_tools).find(variable) != std::string_view::npos;
    };
    if (knows(false, name) || knows(true, name)) continue;
    throw ApiError(400, fmt::format("{}: the model's chat template does not know it", name), name, "unsupported_parameter");
  }
  return variables;
}

}  // namespace tritllm::server
