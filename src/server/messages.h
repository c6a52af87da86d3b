// Owns the reading of conversations and tools as OpenAI's clients send them, into what chat templates take. Does not own templates.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "server/fields.h"
#include "server/model_pool.h"

namespace tritllm::server {

inline constexpr size_t kMostMessages = 4096, kMostTools = 256;

// Messages for a template: every content is one text, the arguments of tool calls are objects. Throws an Error that names the
// field.
Json read_messages(const JsonView& messages);

// The functions in `tools`, as templates take them; null where there is none.
Json read_tools(const JsonView& request);

// Variables for the template: those of chat_template_kwargs and reasoning_effort that the model's template knows. Throws an
// ApiError for others.
Json read_template_variables(const JsonView& request, const ServedModel& model);

}  // namespace tritllm::server
