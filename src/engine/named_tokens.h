// Owns the tokens that a model's files name next to tokenizer.json: the special ones, and those that were added after the tokenizer
// was saved. They are looked for where transformers' AutoTokenizer looks. Does not own tokenising (text/tokenizer.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"
#include "io/model_source.h"

namespace tritllm {

// Null where there is none.
const SideFile* find_side_file(const std::vector<SideFile>& files, std::string_view name) noexcept;

// The text of a special token ("bos_token", …) by tokenizer_config.json and special_tokens_map.json; empty where there is none.
std::string special_token_text(const std::vector<SideFile>& files, std::string_view name, const std::string& where);

// The field "added_tokens" of tokenizer.json with every token added that tokenizer_config.json, special_tokens_map.json or
// added_tokens.json name and that it lacks or describes otherwise. Nothing where it is complete as it is, or cannot be read, which
// its parser says best.
std::optional<JsonDocument> completed_added_tokens(const std::vector<SideFile>& files, const std::string& where);

}  // namespace tritllm
