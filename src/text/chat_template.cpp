#include "text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "core/error.h"
#include "core/utf8.h"
#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"

namespace tritllm {
namespace {

using jinja::Value;

// Templates build control tokens from roles (<|user|> from '<|' + role + '|>'), and a request may use any of these roles anyway:
// they count as the template's text. Any other role is text of the request.
constexpr std::array<std::string_view, 12> kKnownRoles = {"system",      "developer", "user",     "assistant",
                                                          "tool",        "function",  "ipython",  "observation",
                                                          "environment", "model",     "document", "context"};

constexpr std::array<std::string_view, 6> kOwnVariables = {"messages",  "tools",    "documents", "add_generation_prompt",
                                                           "bos_token", "eos_token"};

// Names of a message's reasoning. Templates read the first; gpt-oss's reads the second.
constexpr std::array<std::string_view, 3> kReasoningFields = {"reasoning_content", "thinking", "reasoning"};

// Makes a request's JSON the values of a template, its texts marked as the request's.
class Translator {
 public:
  Translator(const std::string& where, size_t& input_bytes) : where_(where), input_bytes_(input_bytes) {}

  Value translate(const Json& json, int depth = 0) const {
    if (depth >= jinja::kValueDepth) fail(fmt::format("the request nests deeper than the limit of {} levels", jinja::kValueDepth));
    ++input_bytes_;
    switch (json.type()) {
      case Json::value_t::null: return jinja::none();
      case Json::value_t::boolean: return jinja::boolean(json.get<bool>());
      case Json::value_t::number_integer: return jinja::integer(json.get<int64_t>());
      case Json::value_t::number_unsigned: return jinja::integer(whole_number(json.get<uint64_t>()));
      case Json::value_t::number_float: return jinja::real(json.get<double>());
      case Json::value_t::string: return text(json.get_ref<const std::string&>());
      case Json::value_t::array: return list(json, depth);
      case Json::value_t::object: return mapping(json, depth);
      default: fail("the request holds a value that JSON does not have");
    }
  }

  Value messages(const Json& json) const {
    if (!json.is_array()) fail("messages must be an array");
    std::vector<Value> result;
    for (const Json& message : json) {
      if (!message.is_object()) fail("every message must be an object");
      result.push_back(this->message(message));
    }
    return jinja::list_value(std::move(result));
  }

 private:
  [[noreturn]] void fail(std::string_view problem) const { throw Error(ErrorCode::kBadInput, where_, problem); }

  int64_t whole_number(uint64_t number) const {
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      fail(fmt::format("the number {} is beyond 64 bits", number));
    return static_cast<int64_t>(number);
  }

  Value text(const std::string& bytes) const {
    if (!is_valid_utf8(bytes)) fail("the request holds a text that is not valid UTF-8");
    input_bytes_ += bytes.size();
    return jinja::text_value(jinja::request_text(bytes));
  }

  Value list(const Json& json, int depth) const {
    std::vector<Value> items;
    items.reserve(json.size());
    for (const Json& item : json) items.push_back(translate(item, depth + 1));
    return jinja::list_value(std::move(items));
  }

  Value mapping(const Json& json, int depth) const {
    std::vector<std::pair<Value, Value>> items;
    items.reserve(json.size());
    for (const auto& [key, value] : json.items()) items.emplace_back(text(key), translate(value, depth + 1));
    return jinja::dict_value(std::move(items));
  }

  Value message(const Json& json) const {
    const Json* reasoning = nullptr;
    for (const std::string_view field : kReasoningFields) {
      const auto found = json.find(field);
      if (reasoning == nullptr && found != json.end() && !found->is_null()) reasoning = &*found;
    }
    std::vector<std::pair<Value, Value>> items;
    // Whichever name the request uses, the template finds the reasoning under the names that templates read.
    if (reasoning != nullptr) items.emplace_back(text("thinking"), translate(*reasoning, 2));
    for (const auto& [key, value] : json.items()) {
      items.emplace_back(text(key), key == "role" ? role(value) : translate(value, 2));
    }
    if (reasoning != nullptr) items.emplace_back(text("reasoning_content"), translate(*reasoning, 2));
    return jinja::dict_value(std::move(items));
  }

  Value role(const Json& json) const {
    const bool known = json.is_string() &&
                       std::find(kKnownRoles.begin(), kKnownRoles.end(), json.get_ref<const std::string&>()) != kKnownRoles.end();
    return known ? jinja::template_value(json.get<std::string>()) : translate(json, 2);
  }

  const std::string& where_;
  size_t& input_bytes_;
};

bool is_reserved(std::string_view name) {
  return jinja::Globals::is_global(name) || std::find(kOwnVariables.begin(), kOwnVariables.end(), name) != kOwnVariables.end();
}

// Errors name `where`. Adds the length of the request to `input_bytes`.
jinja::Variables template_variables(const ChatTemplateInputs& inputs, const std::string& where, size_t& input_bytes) {
  const Translator translator(where, input_bytes);
  jinja::Variables variables;
  variables.emplace("messages", translator.messages(inputs.messages));
  variables.emplace("tools", translator.translate(inputs.tools));
  variables.emplace("documents", translator.translate(inputs.documents));
  variables.emplace("add_generation_prompt", jinja::boolean(inputs.add_generation_prompt));
  if (!inputs.bos_token.empty()) variables.emplace("bos_token", jinja::template_value(inputs.bos_token));
  if (!inputs.eos_token.empty()) variables.emplace("eos_token", jinja::template_value(inputs.eos_token));
  if (inputs.variables.is_null()) return variables;
  if (!inputs.variables.is_object()) throw Error(ErrorCode::kBadInput, where, "the template's extra variables must be an object");
  for (const auto& [name, value] : inputs.variables.items()) {
    if (is_reserved(name)) {
      throw Error(ErrorCode::kBadInput, where, fmt::format("the template's variable '{}' cannot be replaced", name));
    }
    variables.emplace(name, translator.translate(value));
  }
  return variables;
}

}  // namespace

struct ChatTemplate::Parsed {
  std::string where;
  size_t source_bytes;
  jinja::Body body;
};

ChatTemplate ChatTemplate::parse(std::string source, std::string where) {
  jinja::Body body = jinja::parse_template(source, where);
  return ChatTemplate(std::make_shared<const Parsed>(Parsed{std::move(where), source.size(), std::move(body)}));
}

RenderedPrompt ChatTemplate::render(const ChatTemplateInputs& inputs) const {
  size_t input_bytes = parsed_->source_bytes;
  const jinja::Variables variables = template_variables(inputs, parsed_->where, input_bytes);
  jinja::Budget budget(input_bytes, inputs.messages.size());
  jinja::Interpreter interpreter(variables, inputs.now, budget);
  try {
    jinja::TrackedText text = interpreter.render(parsed_->body);
    return {std::move(text.bytes), std::move(text.input)};
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: line {}", parsed_->where, interpreter.line()), error.problem(), error.remedy());
  }
}

}  // namespace tritllm
