// The routes about tokens, which evaluation programs ask before they send prompts: /tokenize, /detokenize, /tokenizer_info.
#include "server/api_error.h"
#include "server/api_server.h"
#include "server/message_fields.h"
#include "server/messages.h"

namespace tritllm::server {
namespace {

FieldTable tokenize_fields() {
  return {{"model", FieldType::kText, "The model's name; without it, the first one.", 1, 1000},
          {"prompt", FieldType::kText, "A text; either this or messages."},
          messages_field(),
          {"add_special_tokens", FieldType::kBoolean,
           "Whether a text gets the model's first token, where it has one; true by default."},
          {"return_token_strs", FieldType::kBoolean, "Also the tokens' names."}};
}

std::vector<TokenId> tokens_of(const JsonView& request, const ServedModel& model) {
  if (request.has("prompt") == request.has("messages")) {
    throw ApiError(400, "prompt: either this or messages is needed", "prompt", "missing_required_parameter");
  }
  if (request.has("messages")) {
    if (request.has("add_special_tokens")) request.child("add_special_tokens").refuse("no such field with messages");
    return model.language.encode_chat(read_messages(request.child("messages")));
  }
  const bool special = request.optional_boolean("add_special_tokens").value_or(true);
  return model.tokenizer().encode(request.text("prompt"), {.add_special = special, .parse_special = true, .literal = {}});
}

void tokenize(const Call& call) {
  const auto model = call.model();
  const std::vector<TokenId> tokens = tokens_of(call.view(), *model);
  Json answer = {{"count", tokens.size()}, {"max_model_len", model->context()}, {"tokens", tokens}};
  if (call.view().optional_boolean("return_token_strs").value_or(false)) {
    Json& names = answer["token_strs"] = Json::array();
    for (const TokenId token : tokens) names.push_back(model->tokenizer().token_content(token));
  }
  call.respond(answer);
}

void detokenize(const Call& call) {
  const auto model = call.model();
  std::vector<TokenId> tokens;
  for (const JsonView& item : call.view().child("tokens").items()) {
    tokens.push_back(static_cast<TokenId>(item.integer(0, kLargestTokenId)));
    if (!model->tokenizer().is_known(tokens.back())) item.refuse("a token of the model's vocabulary");
  }
  call.respond({{"prompt", model->tokenizer().decode(tokens, /*skip_special=*/false)}});
}

Json name_of(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens) {
  return tokens.empty() ? Json(nullptr) : Json(tokenizer.token_content(tokens.front()));
}

void tokenizer_info(const Call& call) {
  const auto model = call.server.models().get(std::nullopt);
  const std::string_view chat_template = model->language.chat_templates().default_source();
  call.respond({{"bos_token", name_of(model->tokenizer(), model->tokenizer().prefix_tokens())},
                {"eos_token", name_of(model->tokenizer(), model->language.defaults().end_tokens)},
                {"pad_token", nullptr},
                {"vocab_size", model->tokenizer().vocabulary_size()},
                {"model_max_length", model->context()},
                {"chat_template", chat_template.empty() ? Json(nullptr) : Json(chat_template)}});
}

}  // namespace

void add_tokenize_routes(Routes& routes) {
  routes.push_back({.method = "POST",
                    .path = "/tokenize",
                    .summary = "The tokens of a text or a conversation",
                    .fields = tokenize_fields(),
                    .needs_model = true,
                    .run = tokenize});
  routes.push_back({.method = "POST",
                    .path = "/detokenize",
                    .summary = "The text of tokens",
                    .fields = {{"model", FieldType::kText, "The model's name; without it, the first one.", 1, 1000},
                               {"tokens", FieldType::kArray, "Token ids.", 0, 1 << 20, true, FieldUse::kUsed,
                                R"({"type": "array", "items": {"type": "integer", "minimum": 0}})"}},
                    .needs_model = true,
                    .run = detokenize});
  routes.push_back({.method = "GET",
                    .path = "/tokenizer_info",
                    .summary = "Special tokens and chat template of the first model",
                    .needs_model = true,
                    .run = tokenizer_info});
}

}  // namespace tritllm::server
