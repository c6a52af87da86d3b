// Owns the fields of a request that say how an answer is generated, the same in every protocol: sampling, length, stops. Does not
// own prompts.
#pragma once

#include "core/json.h"
#include "engine/generation.h"
#include "server/fields.h"
#include "server/model_pool.h"

namespace tritllm::server {

// Sampling, stop, seed, ignore_eos and max_tokens.
FieldTable generation_fields();

// A request without prompt, with the model's defaults where the client says nothing. `request` has passed check_fields().
GenerationRequest read_generation(const JsonView& request, const ServedModel& model);

// `count` equal requests, each with a seed of its own that follows from the first one's.
std::vector<GenerationRequest> repeated(GenerationRequest request, size_t count);

// A word that differs from answer to answer: "chatcmpl-0123456789abcdef01234567".
std::string new_id(std::string_view prefix);

}  // namespace tritllm::server
