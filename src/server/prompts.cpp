#include "server/prompts.h"

#include <fmt/format.h>

#include <utility>

namespace tritllm::server {
namespace {

constexpr size_t kMostPrompts = 1024;

constexpr std::string_view kPromptSchema =
    R"({"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
  {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
  {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}}]})";

Prompt prompt_of_text(const JsonView& value, const ServedModel& model, bool add_special) {
  std::string text = value.text();
  auto tokens = model.tokenizer().encode(text, {.add_special = add_special, .parse_special = true, .literal = {}});
  if (tokens.empty()) value.refuse("a prompt of at least one token");
  return {std::move(tokens), std::move(text)};
}

Prompt prompt_of_tokens(const JsonView& value, const ServedModel& model) {
  Prompt prompt;
  const uint64_t last = model.language.model().config().vocabulary - 1;
  for (const JsonView& item : value.items()) prompt.tokens.push_back(static_cast<TokenId>(item.integer(0, last)));
  if (prompt.tokens.empty()) value.refuse("at least one token");
  prompt.text = model.tokenizer().decode(prompt.tokens, /*skip_special=*/false);
  return prompt;
}

}  // namespace

RequestField prompts_field(std::string_view name) {
  return {.name = name, .help = "A text, token ids, or several of either.", .required = true, .schema = kPromptSchema};
}

RequestField add_special_field() {
  return {.name = "add_special_tokens",
          .type = FieldType::kBoolean,
          .help = "Whether a text gets the model's first token, where it has one; true by default."};
}

std::vector<Prompt> read_prompts(const JsonView& value, const ServedModel& model, bool add_special) {
  if (value.json().is_string()) return {prompt_of_text(value, model, add_special)};
  if (!value.json().is_array() || value.json().empty()) value.refuse("a text, token ids, or several of either");
  if (value.json().front().is_number()) return {prompt_of_tokens(value, model)};
  if (value.json().size() > kMostPrompts) value.refuse(fmt::format("at most {} prompts", kMostPrompts));
  std::vector<Prompt> prompts;
  for (const JsonView& item : value.items()) {
    prompts.push_back(item.json().is_array() ? prompt_of_tokens(item, model) : prompt_of_text(item, model, add_special));
  }
  return prompts;
}

}  // namespace tritllm::server
