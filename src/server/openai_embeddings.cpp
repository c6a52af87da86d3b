// The route /v1/embeddings: of each text the final hidden state of its last token, of length 1. A decoder has seen the whole text
// only there; vLLM takes the same of such models.
#include <fmt/format.h>
#include <openssl/evp.h>

#include <cmath>
#include <cstring>
#include <utility>

#include "server/answering.h"
#include "server/api_error.h"
#include "server/api_server.h"
#include "server/openai_writer.h"
#include "server/prompts.h"

namespace tritllm::server {
namespace {

FieldTable embedding_fields() {
  return joined({{{"model", FieldType::kText, "The model's name; without it, the first one.", 1, 1000},
                  prompts_field("input"),
                  add_special_field(),
                  {.name = "encoding_format",
                   .type = FieldType::kText,
                   .help = "Numbers, or the base64 text of little-endian 32-bit floats; float by default.",
                   .words = {"float", "base64"}}},
                 labels()});
}

std::vector<float> of_length_one(std::vector<float> values) {
  double squares = 0;
  for (const float value : values) squares += double{value} * value;
  const double length = std::sqrt(squares);
  for (float& value : values) value = static_cast<float>(value / length);
  return values;
}

std::string base64(const std::vector<float>& values) {
  std::vector<unsigned char> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // the function ends it with a zero
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

// The answer is never streamed.
class EmbeddingWriter final : public AnswerWriter {
 public:
  EmbeddingWriter(const ServedModel& model, size_t texts, bool as_text)
      : name_(model.name), as_text_(as_text), embeddings_(texts) {}

  std::string take(size_t index, const GenerationEvent& event) override {
    embeddings_[index] = of_length_one(event.state);
    tokens_ += event.prompt_tokens;
    return "";
  }
  std::string end() override { return ""; }
  std::string failed(const std::string&) override { return ""; }

  HttpResponse whole() override {
    Json data = Json::array();
    for (size_t i = 0; i < embeddings_.size(); ++i) {
      Json values = as_text_ ? Json(base64(embeddings_[i])) : Json(embeddings_[i]);
      data.push_back({{"object", "embedding"}, {"index", i}, {"embedding", std::move(values)}});
    }
    return {.body = json_line({{"object", "list"},
                               {"data", std::move(data)},
                               {"model", name_},
                               {"usage", {{"prompt_tokens", tokens_}, {"total_tokens", tokens_}}}})};
  }

 private:
  const std::string name_;
  const bool as_text_;
  std::vector<std::vector<float>> embeddings_;
  uint64_t tokens_ = 0;
};

void embed(const Call& call) {
  const JsonView request = call.view();
  const auto model = call.model();
  auto prompts = read_prompts(request.child("input"), *model, request.optional_boolean("add_special_tokens").value_or(true));
  if (prompts.size() > model->options.queued) {
    throw ApiError(400, fmt::format("input: the request has {} texts; the queue holds {}", prompts.size(), model->options.queued),
                   "input");
  }
  std::vector<GenerationRequest> choices;
  for (Prompt& prompt : prompts) {
    GenerationRequest& one = choices.emplace_back();
    one.prompt = std::move(prompt.tokens);
    one.max_tokens = 1;  // no more room in the cache than the text takes
    one.state_of_prompt = true;
  }
  const bool as_text = request.optional_text("encoding_format").value_or("float") == "base64";
  auto writer = std::make_unique<EmbeddingWriter>(*model, choices.size(), as_text);
  answer({.model = model, .choices = std::move(choices), .writer = std::move(writer), .prompt_field = "input", .lease = call.lease},
         call.exchange, call.server.metrics());
}

}  // namespace

void add_embedding_routes(Routes& routes) {
  routes.push_back({.method = "POST",
                    .path = "/v1/embeddings",
                    .summary = "Vectors of texts",
                    .fields = embedding_fields(),
                    .needs_model = true,
                    .run = embed});
}

}  // namespace tritllm::server
