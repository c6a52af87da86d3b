// Owns the reading of conversations and tools as OpenAI's clients send them, into what chat templates take. Does not own what
// fields they may have (message_fields.h) nor templates.
#pragma once

#include "core/json.h"
#include "server/model_pool.h"

namespace tritllm::server {

// Messages for a template: every content is one text, the arguments of tool calls are objects. Throws an Error that names the
// field. `messages` have passed check_fields().
Json read_messages(const JsonView& messages);

// The functions in `tools`, as templates take them; null where there is none. `constrained`: a call has to come, and keeps to its
// function's parameters, as "strict" asks. `tools` have passed check_fields().
Json read_tools(const JsonView& request, bool constrained);

// One of them: `function` has name, description and parameters.
Json read_function(const JsonView& function, bool constrained);

// Variables for the template: those of chat_template_kwargs and reasoning_effort that the model's template knows. Throws an
// ApiError for others.
Json read_template_variables(const JsonView& request, const ServedModel& model);

}  // namespace tritllm::server
