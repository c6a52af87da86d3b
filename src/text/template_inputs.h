// Owns the translation of a request into a template's variables: what is marked as the request's, and what a request may set.
#pragma once

#include <string>

#include "text/chat_template.h"
#include "text/jinja/interpreter.h"

namespace tritllm {

// Errors name `where`.
jinja::Variables template_variables(const ChatTemplateInputs& inputs, const std::string& where);

}  // namespace tritllm
