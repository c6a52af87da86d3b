// Owns the tables of what messages, tools and forms of answers hold, in the shapes of OpenAI's chats. Does not own the reading of
// them (messages.h, output_format.h).
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "server/fields.h"

namespace tritllm::server {

inline constexpr size_t kMostMessages = 4096, kMostTools = 256;

// A message's content is a text or parts; `words` are the types of parts that are texts.
RequestField content_field(std::vector<std::string_view> words);
RequestField messages_field();

// A function: nested in "function", as chats have it, or flat, as /v1/responses does.
RequestField tools_field(bool nested);
RequestField tool_calls_field();
RequestField tool_choice_field(bool nested);
// A form of an answer: a schema in "json_schema", or flat.
RequestField format_field(std::string_view name, bool nested);

// Variables for the chat template. Others would let a request change what the template's author has fixed.
RequestField template_variables_field();

}  // namespace tritllm::server
