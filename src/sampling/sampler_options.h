// Owns what a caller may ask of the sampler: one table of its numbers with names, ranges and help, from which validation, command
// line, chat, JSON and documentation are made. Does not own what the options do (sampling/sampler.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/json.h"

namespace tritllm {

// Added to the logit of one token: a finite number of at most kLargestLogitBias, or minus infinity, which bans the token.
struct LogitBias {
  uint32_t token = 0;
  float bias = 0;
};

// Large enough for callers that ban a token with -1e9, small enough that no sum with a logit overflows.
inline constexpr float kLargestLogitBias = 1e9f;
inline constexpr uint32_t kWholeContext = std::numeric_limits<uint32_t>::max();

// The defaults sample from the model's own distribution. sampler_fields() says what each number does.
struct SamplerOptions {
  float temperature = 1;
  uint32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float typical_p = 1;
  float repeat_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  uint32_t penalty_window = 64;            // as in llama.cpp, 0 turns the penalties off; kWholeContext takes all tokens
  std::vector<LogitBias> logit_bias = {};  // no token twice
  uint64_t seed = 0;
};

// A number of SamplerOptions.
struct SamplerField {
  std::string_view name;
  std::variant<float SamplerOptions::*, uint32_t SamplerOptions::*> member;
  double least, most;
  double off;  // the value that leaves the distribution as it is
  std::string_view help;
};

std::span<const SamplerField> sampler_fields() noexcept;

// The field of that name, which may be written with dashes; "temp" is the temperature. Null where there is none.
const SamplerField* find_sampler_field(std::string_view name);

// The field's value, exactly.
double sampler_value(const SamplerOptions& options, const SamplerField& field) noexcept;
// As a user types it: 0.8, not 0.800000012.
std::string sampler_value_text(const SamplerOptions& options, const SamplerField& field);

// Throws an Error that names the field where the text is not a number of its range.
void set_sampler_value(SamplerOptions& options, const SamplerField& field, std::string_view text);

// Throws an Error that names the field, its range and the value found.
void validate(const SamplerOptions& options, size_t vocabulary_size);

// Every number and the biases: with the seed, all that is needed to repeat an answer.
Json to_json(const SamplerOptions& options);

}  // namespace tritllm
