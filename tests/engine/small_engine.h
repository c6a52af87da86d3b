// Owns what the tests of the engine talk to: a small random model with a tokenizer of letters, requests, what the listeners heard,
// and the greedy answer as the model gives it token by token, without an engine.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/backend.h"
#include "engine/asynchronous_backend.h"
#include "engine/engine.h"
#include "kernels/kernel_table.h"
#include "model/plain_sequences.h"
#include "support/small_llama.h"
#include "text/tokenizer_json.h"

namespace tritllm {

inline constexpr TokenId kEndToken = 36;
inline constexpr uint32_t kSmallVocabulary = 37;

// Tokens 0 to 25 are letters, 28 to 33 short words; all of them are plain text.
inline Tokenizer letters_tokenizer() {
  Json document = tokenizer_document();
  document["added_tokens"] = Json::array({added_token(kEndToken, "</s>")});
  return tokenizer_of(document);
}

struct EngineSetting {
  uint32_t slots = 8, positions = 200, batch_tokens = 64;
  unsigned threads = 1;
  std::vector<TokenId> end_tokens = {};
  CacheType cache = CacheType::kFloat32;
  uint64_t cache_tokens = 0;
  uint32_t queued = UINT32_MAX;
  bool asynchronous = false;
};

// What one request's listener heard.
struct Heard {
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<TokenScore> scores, prompt_scores;
  std::vector<GenerationEvent> events;

  bool ended() const { return !events.empty() && events.back().finish.has_value(); }
  FinishReason reason() const { return events.back().finish.value(); }
  const GenerationEvent& last() const { return events.back(); }

  void hear(const GenerationEvent& event) {
    EXPECT_FALSE(ended()) << "an event after the last one";
    text += event.text;
    if (event.token) tokens.push_back(*event.token);
    if (event.score) scores.push_back(*event.score);
    prompt_scores.insert(prompt_scores.end(), event.prompt_scores.begin(), event.prompt_scores.end());
    events.push_back(event);
  }
};

class SmallEngine {
 public:
  explicit SmallEngine(const EngineSetting& setting = {}, const SmallLlama& llama = SmallLlama(kSmallVocabulary),
                       Tokenizer tokenizer = letters_tokenizer())
      : pool_(setting.threads),
        backend_(backend_of(setting, pool_)),
        tokenizer_(std::move(tokenizer)),
        model_(llama.files(), {setting.positions, setting.batch_tokens}, *backend_),
        engine_(model_, tokenizer_, setting.end_tokens,
                {.slots = setting.slots,
                 .cache = setting.cache,
                 .cache_tokens = setting.cache_tokens,
                 .queued = setting.queued,
                 .step_budget = std::chrono::hours(1)}) {}

  Model& model() { return model_; }
  int steps_ahead() const { return static_cast<AsynchronousBackend&>(*backend_).steps_ahead; }  // of an asynchronous one
  Engine& engine() { return engine_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  std::vector<TokenId> encode(std::string_view text) const { return tokenizer_.encode(text); }

  RequestId submit(GenerationRequest request, Heard& heard) {
    return engine_.submit(std::move(request),
                          std::make_shared<FunctionSink>([&](const GenerationEvent& event) { heard.hear(event); }));
  }

  // All together, in this order.
  std::vector<Heard> run(std::vector<GenerationRequest> requests) {
    std::vector<Heard> heard(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) submit(std::move(requests[i]), heard[i]);
    engine_.run();
    for (const Heard& one : heard) EXPECT_TRUE(one.ended());
    return heard;
  }
  Heard run_one(GenerationRequest request) { return run({std::move(request)}).front(); }

 private:
  static std::unique_ptr<Backend> backend_of(const EngineSetting& setting, ThreadPool& pool) {
    auto backend = make_cpu_backend(pool, kernels::active_table());
    if (!setting.asynchronous) return backend;
    return std::make_unique<AsynchronousBackend>(std::move(backend));
  }

  ThreadPool pool_;
  std::unique_ptr<Backend> backend_;
  Tokenizer tokenizer_;
  Model model_;
  Engine engine_;
};

inline GenerationRequest greedy(std::vector<TokenId> prompt, uint32_t tokens = 24) {
  GenerationRequest request;
  request.prompt = std::move(prompt);
  request.sampler.temperature = 0;
  request.max_tokens = tokens;
  return request;
}

inline std::vector<TokenId> random_prompt(size_t length, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> prompt;
  for (size_t i = 0; i < length; ++i) prompt.push_back(static_cast<TokenId>(random() % 34));
  return prompt;
}

// The model by itself, one token at a time in a cache of its own.
class PlainModel {
 public:
  explicit PlainModel(const SmallLlama& llama = SmallLlama(kSmallVocabulary), CacheType cache = CacheType::kFloat32)
      : pool_(1),
        backend_(make_cpu_backend(pool_, kernels::active_table())),
        model_(llama.files(), {256, 1}, *backend_),
        sequence_(model_, 1, cache) {}

  // Logits after each of the tokens.
  std::vector<std::vector<float>> logits(const std::vector<TokenId>& tokens) {
    std::vector<std::vector<float>> rows;
    for (uint32_t position = 0; position < tokens.size(); ++position) rows.push_back(step(tokens[position], position));
    return rows;
  }

  std::vector<TokenId> greedy_answer(const std::vector<TokenId>& prompt, size_t count) {
    std::vector<float> row = logits(prompt).back();
    std::vector<TokenId> answer;
    while (answer.size() < count) {
      answer.push_back(static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin()));
      row = step(answer.back(), static_cast<uint32_t>(prompt.size() + answer.size() - 1));
    }
    return answer;
  }

 private:
  std::vector<float> step(TokenId token, uint32_t position) {
    const TokenPlace place{0, position};
    const uint32_t row = 0;
    std::vector<float> out(model_.config().vocabulary);
    sequence_.forward({&token, 1}, {&place, 1}, {&row, 1});
    sequence_.logits(0, 1, out);
    return out;
  }

  ThreadPool pool_;
  std::unique_ptr<Backend> backend_;
  Model model_;
  PlainSequences sequence_;
};

using Tokens = std::vector<TokenId>;

inline std::shared_ptr<EventSink> sink_of(std::function<void(const GenerationEvent&)> function) {
  return std::make_shared<FunctionSink>(std::move(function));
}

inline Tokens joined(const Tokens& a, const Tokens& b) {
  Tokens both = a;
  both.insert(both.end(), b.begin(), b.end());
  return both;
}

// Prompts from one token to more than a batch, two of them with a common beginning.
inline std::vector<Tokens> eight_prompts() {
  std::vector<Tokens> prompts;
  for (const size_t length : {1u, 2u, 7u, 16u, 33u, 64u, 100u}) prompts.push_back(random_prompt(length, length));
  prompts.push_back(joined(prompts[4], random_prompt(5, 99)));
  return prompts;
}

inline std::vector<Tokens> expected_answers(const std::vector<Tokens>& prompts, CacheType cache = CacheType::kFloat32) {
  PlainModel plain(SmallLlama(kSmallVocabulary), cache);
  std::vector<Tokens> answers;
  for (const Tokens& prompt : prompts) answers.push_back(plain.greedy_answer(prompt, 24));
  return answers;
}

}  // namespace tritllm
