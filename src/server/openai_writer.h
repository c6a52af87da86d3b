// Owns what the answers of OpenAI's routes have in common: events, numbers of tokens, finish reasons. Does not own any one route.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "engine/generation.h"
#include "server/fields.h"

namespace tritllm::server {

inline constexpr size_t kMostChoices = 64;

// Fields that cannot change an answer.
FieldTable labels();

struct StreamOptions {
  bool stream = false, include_usage = false;
};
RequestField stream_options_field();
StreamOptions read_stream_options(const JsonView& request);

// Adds up the tokens of a request with several choices; equal prompts count once.
class UsageCount {
 public:
  // `per_prompt` choices follow each other for each prompt.
  explicit UsageCount(size_t choices, size_t per_prompt = 0)
      : counts_(choices), per_prompt_(per_prompt == 0 ? choices : per_prompt) {}
  void note(size_t choice, const GenerationEvent& event);
  // All tokens of the choice so far belong to its reasoning.
  void note_reasoning(size_t choice, const GenerationEvent& event) { counts_[choice].reasoning = event.generated_tokens; }
  Json json() const;

 private:
  struct Counts {
    uint32_t prompt = 0, reused = 0, generated = 0, reasoning = 0;
  };
  std::vector<Counts> counts_;
  size_t per_prompt_;
};

// "stop" or "length".
std::string_view openai_finish_reason(FinishReason reason) noexcept;

// "data: …", an empty line.
std::string event_text(const Json& json);
// The last event, where there is one, and [DONE].
std::string stream_end(const StreamOptions& options, const Json& last);

}  // namespace tritllm::server
