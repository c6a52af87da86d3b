// Owns the prompts of a request that are read as they stand: texts or token ids, one or several. Names of control tokens in texts
// are these tokens. Does not own conversations (messages.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "server/fields.h"
#include "server/model_pool.h"

namespace tritllm::server {

struct Prompt {
  std::vector<TokenId> tokens;
  std::string text;
};

RequestField prompts_field(std::string_view name);
// Whether a text gets the model's first token.
RequestField add_special_field();

std::vector<Prompt> read_prompts(const JsonView& value, const ServedModel& model, bool add_special);

}  // namespace tritllm::server
