// Owns what a request says about the form of its answer: a JSON object, a JSON schema, a regular expression, a grammar, one of
// several texts, a call that has to come. Does not own grammars (sampling/json_schema.h, sampling/text_grammars.h).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/json.h"
#include "sampling/token_constraint.h"
#include "server/answer_parser.h"
#include "server/fields.h"
#include "server/model_pool.h"

namespace tritllm::server {

// The constraint that {"type": "text" | "json_object" | "json_schema", …} asks for; null for text. Where `nested`, the schema
// stands in "json_schema", else beside the type.
std::shared_ptr<TokenConstraint> read_format(const JsonView& format, bool nested, ServedModel& model);
// Ollama's: "json", or a schema itself.
std::shared_ptr<TokenConstraint> read_plain_format(const JsonView& format, ServedModel& model);

// Forms that are no field of OpenAI: structured_outputs and guided_… of vLLM, grammar of llama.cpp.
FieldTable form_fields();
// The constraint that one of them, or response_format, asks for; null for none. Throws an Error where there are several.
std::shared_ptr<TokenConstraint> read_form(const JsonView& request, ServedModel& model);

enum class ToolUse { kNone, kAuto, kRequired };
struct ToolChoice {
  ToolUse use = ToolUse::kAuto;
  std::optional<std::string> name;  // of the function that has to be called
};
// "auto", "none", "required", or a function by its name, which stands in "function" where `nested`.
ToolChoice read_tool_choice(const JsonView& request, bool nested);

// One call of these functions, and nothing else. `tools` are as read_tools() returns them.
std::shared_ptr<TokenConstraint> call_constraint(const Json& tools, const ToolChoice& choice, ToolFormat format,
                                                 ServedModel& model);

}  // namespace tritllm::server
