#include "server/response_input.h"

#include <string>
#include <utility>

#include "server/api_error.h"
#include "server/message_fields.h"
#include "server/messages.h"

namespace tritllm::server {
namespace {

constexpr auto kText = FieldType::kText;

RequestField required_text(std::string_view name) { return {.name = name, .type = kText, .required = true}; }

// What a server tells about an item that it made.
FieldTable item_labels() {
  return {{.name = "id", .type = kText, .use = FieldUse::kWithoutEffect},
          {.name = "status", .type = kText, .use = FieldUse::kWithoutEffect}};
}

RequestField content(std::string_view name, std::vector<std::string_view> words) {
  RequestField field = content_field(std::move(words));
  field.name = name;
  field.required = true;
  return field;
}

FieldTable message_item() {
  return joined({{{.name = "type", .type = kText, .words = {"message"}},
                  {.name = "role", .type = kText, .required = true, .words = {"system", "developer", "user", "assistant"}},
                  content("content", {"input_text", "output_text", "text"})},
                 item_labels()});
}

FieldTable call_item() {
  return joined({{{.name = "type", .type = kText, .required = true, .words = {"function_call"}},
                  required_text("call_id"),
                  required_text("name"),
                  required_text("arguments")},
                 item_labels()});
}

FieldTable call_output_item() {
  return joined({{{.name = "type", .type = kText, .required = true, .words = {"function_call_output"}},
                  required_text("call_id"),
                  content("output", {"input_text", "output_text", "text"})},
                 item_labels()});
}

FieldTable reasoning_item() {
  const FieldTable part = {{.name = "type", .type = kText, .required = true, .words = {"reasoning_text"}}, required_text("text")};
  return joined({{{.name = "type", .type = kText, .required = true, .words = {"reasoning"}},
                  {.name = "content", .type = FieldType::kArray, .help = "What the model thought.", .members = {part}},
                  {.name = "summary", .type = FieldType::kArray, .use = FieldUse::kWithoutEffect}},
                 item_labels()});
}

class InputReader {
 public:
  explicit InputReader(const JsonView& request) {
    if (const auto text = request.optional_text("instructions")) messages_.push_back({{"role", "system"}, {"content", *text}});
    const JsonView input = request.child("input");
    if (input.json().is_string()) {
      messages_.push_back({{"role", "user"}, {"content", input.text()}});
    } else {
      for (const JsonView& item : input.items()) take(item);
    }
  }

  Json messages() const { return read_messages(JsonView(messages_, std::string(kRequestPlace) + ": /input")); }

 private:
  void take(const JsonView& item) {
    const std::string type = item.optional_text("type").value_or("message");
    if (type == "message") take_message(item);
    else if (type == "function_call") take_call(item);
    else if (type == "function_call_output") take_output(item);
    else take_reasoning(item);
  }

  void take_message(const JsonView& item) {
    Json message = {{"role", item.text("role")}, {"content", item.child("content").json()}};
    if (message["role"] == "assistant" && !reasoning_.empty()) message["reasoning_content"] = std::exchange(reasoning_, "");
    messages_.push_back(std::move(message));
  }

  void take_call(const JsonView& item) {
    const Json call = {{"id", item.text("call_id")},
                       {"type", "function"},
                       {"function", {{"name", item.text("name")}, {"arguments", item.text("arguments")}}}};
    // Calls of one turn belong to one message.
    if (messages_.empty() || messages_.back()["role"] != "assistant") messages_.push_back({{"role", "assistant"}, {"content", ""}});
    messages_.back()["tool_calls"].push_back(call);
    if (!reasoning_.empty()) messages_.back()["reasoning_content"] = std::exchange(reasoning_, "");
  }

  void take_output(const JsonView& item) {
    messages_.push_back({{"role", "tool"}, {"tool_call_id", item.text("call_id")}, {"content", item.child("output").json()}});
  }

  void take_reasoning(const JsonView& item) {
    const auto content = item.optional_child("content");
    if (!content) return;
    for (const JsonView& part : content->items()) reasoning_ += part.text("text");
  }

  Json messages_ = Json::array();
  std::string reasoning_;
};

}  // namespace

RequestField response_input_field() {
  return {.name = "input",
          .type = FieldType::kTextOrArray,
          .help = "A text, or the items of a conversation.",
          .least = 1,
          .most = kMostMessages,
          .required = true,
          .members = {message_item(), call_item(), call_output_item(), reasoning_item()}};
}

Json read_response_input(const JsonView& request) { return InputReader(request).messages(); }

Json read_flat_tools(const JsonView& request, bool constrained) {
  const auto tools = request.optional_child("tools");
  if (!tools) return nullptr;
  Json all = Json::array();
  for (const JsonView& tool : tools->items()) all.push_back(read_function(tool, constrained));
  return all.empty() ? Json(nullptr) : all;
}

}  // namespace tritllm::server
