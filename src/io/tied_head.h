// Owns the question whether a model's head is its embedding, where config.json and the weights give different answers. The weights
// win, as in transformers 5 and vLLM: a head that is stored and differs from the embedding is the head.
#pragma once

#include <string_view>

#include "io/model_source.h"

namespace tritllm {

// What transformers' configuration class of the architecture assumes where config.json does not say.
bool ties_head_by_default(std::string_view architecture) noexcept;

// Whether the config ties the two, at its top or in its text_config.
bool config_ties_head(const Json& config);

// Makes the config say that they are two.
void untie_head(Json& config);

// Unties the head and adds a warning where the model stores one that differs from its embedding.
void settle_tied_head(ModelSource& model);

inline constexpr std::string_view kUntiedWarning =
    "config.json says that the head is the embedding (tie_word_embeddings), but the weights hold another head: the stored one is "
    "used";

}  // namespace tritllm
