#include "text/chat_template.h"

#include <fmt/format.h>

#include "core/error.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"
#include "text/template_inputs.h"

namespace tritllm {

struct ChatTemplate::Parsed {
  std::string where;
  jinja::Body body;
};

ChatTemplate ChatTemplate::parse(std::string source, std::string where) {
  jinja::Body body = jinja::parse_template(source, where);
  return ChatTemplate(std::make_shared<const Parsed>(Parsed{std::move(where), std::move(body)}));
}

RenderedPrompt ChatTemplate::render(const ChatTemplateInputs& inputs) const {
  const jinja::Variables variables = template_variables(inputs, parsed_->where);
  jinja::Budget budget(jinja::kStepLimit + jinja::kStepsPerMessage * inputs.messages.size());
  jinja::Interpreter interpreter(variables, inputs.now, budget);
  try {
    jinja::TrackedText text = interpreter.render(parsed_->body);
    return {std::move(text.bytes), std::move(text.input)};
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: line {}", parsed_->where, interpreter.line()), error.problem(), error.remedy());
  }
}

}  // namespace tritllm
