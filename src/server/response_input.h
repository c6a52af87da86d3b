// Owns the conversation of a /v1/responses request: which items its input may hold, and the way to messages and tools in the shapes
// of chats. Does not own the answer (openai_responses.cpp).
#pragma once

#include "core/json.h"
#include "server/fields.h"

namespace tritllm::server {

RequestField response_input_field();

// The messages of `instructions` and `input`, as read_messages() returns them.
Json read_response_input(const JsonView& request);

// Tools are flat here; returned as read_tools() does.
Json read_flat_tools(const JsonView& request, bool constrained);

}  // namespace tritllm::server
