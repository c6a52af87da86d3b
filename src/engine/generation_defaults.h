// Owns what a model's own files say about generating with it: the tokens that end an answer, sampling settings, special tokens and
// the chat template, wherever these stand. Does not own their use.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "sampling/sampler_options.h"
#include "io/model_source.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tritllm {

struct GenerationDefaults {
  std::vector<TokenId> end_tokens;  // of generation_config.json and config.json together
  SamplerOptions sampler;           // the model's where it has them, else this project's
  bool sampler_is_the_models = false;
};

// What a model without settings of its own is sampled with.
SamplerOptions usual_sampler_options();

GenerationDefaults read_generation_defaults(const std::vector<SideFile>& files, const Json& config, size_t vocabulary_size,
                                            const std::string& where);

// The text of a special token ("bos_token", …) by tokenizer_config.json; empty where there is none.
std::string special_token_text(const std::vector<SideFile>& files, std::string_view name, const std::string& where);

// chat_template.jinja, chat_template.json or tokenizer_config.json, in this order; of several, the one called "default".
std::optional<ChatTemplate> find_chat_template(const std::vector<SideFile>& files, const std::string& where);

const SideFile* find_side_file(const std::vector<SideFile>& files, std::string_view name) noexcept;

}  // namespace tritllm
