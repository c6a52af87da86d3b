#include "server/openai_writer.h"

#include <algorithm>

#include "server/api_error.h"

namespace tritllm::server {

FieldTable labels() {
  constexpr auto kNone = FieldUse::kWithoutEffect;
  return {{"user", FieldType::kText, "", 0, 0, false, kNone},
          {"metadata", FieldType::kObject, "", 0, 0, false, kNone},
          {"safety_identifier", FieldType::kText, "", 0, 0, false, kNone},
          {"prompt_cache_key", FieldType::kText, "", 0, 0, false, kNone}};
}

RequestField stream_options_field() {
  return {
      .name = "stream_options",
      .type = FieldType::kObject,
      .help = "With stream alone.",
      .members = {{{.name = "include_usage", .type = FieldType::kBoolean, .help = "The last event tells the numbers of tokens."},
                   {.name = "include_obfuscation", .use = FieldUse::kOneValue, .schema = "false"}}}};
}

StreamOptions read_stream_options(const JsonView& request) {
  StreamOptions options;
  options.stream = request.optional_boolean("stream").value_or(false);
  const auto given = request.optional_child("stream_options");
  if (!given) return options;
  if (!options.stream) given->refuse("none without \"stream\": true");
  options.include_usage = given->optional_boolean("include_usage").value_or(false);
  return options;
}

void UsageCount::note(size_t choice, const GenerationEvent& event) {
  counts_[choice] = {event.prompt_tokens, event.reused_tokens, event.generated_tokens, counts_[choice].reasoning};
}

Json UsageCount::json() const {
  uint64_t prompt = 0, reused = 0, generated = 0, reasoning = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    generated += counts_[i].generated;
    reasoning += counts_[i].reasoning;
    if (i % per_prompt_ != 0) continue;
    prompt += counts_[i].prompt;
    reused += counts_[i].reused;
  }
  return {{"prompt_tokens", prompt},
          {"completion_tokens", generated},
          {"total_tokens", prompt + generated},
          {"prompt_tokens_details", {{"cached_tokens", reused}}},
          {"completion_tokens_details", {{"reasoning_tokens", reasoning}}}};
}

std::string_view openai_finish_reason(FinishReason reason) noexcept {
  return reason == FinishReason::kLength || reason == FinishReason::kContext ? "length" : "stop";
}

std::string event_text(const Json& json) { return "data: " + json_line(json) + "\n\n"; }

std::string stream_end(const StreamOptions& options, const Json& last) {
  return (options.include_usage ? event_text(last) : "") + "data: [DONE]\n\n";
}

}  // namespace tritllm::server
