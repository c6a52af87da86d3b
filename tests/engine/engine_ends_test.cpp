// Every way in which an answer ends: lengths, stops, cancellation, failures; and what submit() refuses.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/utf8.h"
#include "engine/engine.h"
#include "engine/small_engine.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

TEST(EngineEnd, MaxTokens) {
  SmallEngine engine;
  const Heard none = engine.run_one(greedy({1, 2, 3}, 0));
  EXPECT_EQ(none.text, "");
  EXPECT_TRUE(none.tokens.empty());
  EXPECT_EQ(none.events.size(), 1u);
  EXPECT_EQ(none.reason(), FinishReason::kLength);
  EXPECT_EQ(none.last().generated_tokens, 0u);
  const Heard one = engine.run_one(greedy({1, 2, 3}, 1));
  EXPECT_EQ(one.tokens, PlainModel().greedy_answer({1, 2, 3}, 1));
  EXPECT_EQ(one.events.size(), 1u);
  EXPECT_EQ(one.reason(), FinishReason::kLength);
}

TEST(EngineEnd, TheContextIsFilledToItsLastToken) {
  SmallEngine engine({.positions = 20});
  const Tokens prompt = random_prompt(15, 4);
  const Heard heard = engine.run_one(greedy(prompt, 1000));
  EXPECT_EQ(heard.reason(), FinishReason::kContext);
  EXPECT_EQ(heard.tokens, PlainModel().greedy_answer(prompt, 5));
  const Heard exactly = engine.run_one(greedy(prompt, 5));
  EXPECT_EQ(exactly.reason(), FinishReason::kLength);
  const Heard fullest = engine.run_one(greedy(random_prompt(19, 5), 1000));
  EXPECT_EQ(fullest.tokens.size(), 1u);
  EXPECT_EQ(fullest.reason(), FinishReason::kContext);
}

TEST(EngineEnd, EndTokens) {
  const Tokens prompt = random_prompt(9, 6), answer = PlainModel().greedy_answer(prompt, 24);
  const size_t at = 7;  // a token whose first place in the answer is known
  const TokenId end = answer[at];
  const size_t first = static_cast<size_t>(std::find(answer.begin(), answer.end(), end) - answer.begin());
  SmallEngine engine({.end_tokens = {kEndToken, end}});
  const Heard heard = engine.run_one(greedy(prompt));
  EXPECT_EQ(heard.reason(), FinishReason::kEndToken);
  EXPECT_EQ(heard.tokens, Tokens(answer.begin(), answer.begin() + static_cast<long>(first) + 1)) << "the end token is reported";
  EXPECT_EQ(heard.text, engine.tokenizer().decode(Tokens(answer.begin(), answer.begin() + static_cast<long>(first)), true))
      << "but not shown";
  GenerationRequest request = greedy(prompt);
  request.ignore_end_tokens = true;
  const Heard ignoring = engine.run_one(request);
  EXPECT_EQ(ignoring.reason(), FinishReason::kLength);
  EXPECT_EQ(ignoring.tokens, answer);
  EXPECT_EQ(ignoring.text, engine.tokenizer().decode(answer, true));
}

TEST(EngineEnd, AnEndTokenAsTheLastOneAllowedIsAnEndToken) {
  const Tokens prompt = random_prompt(9, 6), answer = PlainModel().greedy_answer(prompt, 1);
  SmallEngine engine({.end_tokens = {answer[0]}});
  EXPECT_EQ(engine.run_one(greedy(prompt, 1)).reason(), FinishReason::kEndToken);
}

TEST(EngineEnd, StopStringsAcrossTokenBorders) {
  SmallEngine engine;
  const Tokens prompt = random_prompt(12, 8);
  const std::string text = engine.run_one(greedy(prompt, 40)).text;
  ASSERT_GE(text.size(), 40u);
  for (size_t first = 1; first < 30; ++first) {
    for (const size_t length : {1u, 2u, 5u}) {
      GenerationRequest request = greedy(prompt, 40);
      request.stops = {"never{}", text.substr(first, length)};
      const size_t found = text.find(request.stops[1]);
      const Heard heard = engine.run_one(std::move(request));
      EXPECT_EQ(heard.text, text.substr(0, found)) << "stop at " << first;
      EXPECT_EQ(heard.reason(), FinishReason::kStopString);
      std::string so_far;
      for (const GenerationEvent& event : heard.events) {
        so_far += event.text;
        EXPECT_EQ(text.compare(0, so_far.size(), so_far), 0) << "text was shown that the stop takes back";
      }
    }
  }
}

TEST(EngineEnd, WhatAStopHeldBackIsGivenAtTheEnd) {
  SmallEngine engine;
  const Tokens prompt = random_prompt(12, 8);
  const std::string text = engine.run_one(greedy(prompt, 10)).text;
  GenerationRequest request = greedy(prompt, 10);
  request.stops = {text.substr(text.size() - 3) + "zzzz"};
  const Heard heard = engine.run_one(std::move(request));
  EXPECT_EQ(heard.text, text);
  EXPECT_EQ(heard.reason(), FinishReason::kLength);
}

// Bytes of characters that come in several tokens.
TEST(EngineEnd, TextIsValidUtf8InEveryEvent) {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    vocabulary[name] = byte;
  }
  Json document = tokenizer_document({{"type", "BPE"},
                                      {"unk_token", nullptr},
                                      {"fuse_unk", false},
                                      {"byte_fallback", true},
                                      {"vocab", vocabulary},
                                      {"merges", Json::array()}});
  document["decoder"] = sequence("decoders", {part("ByteFallback"), part("Fuse")});
  SmallEngine engine({}, SmallLlama(256, 2), tokenizer_of(document));
  GenerationRequest request = greedy({0xe2, 0x82, 0xac}, 120);
  request.sampler.temperature = 2;
  for (TokenId byte = 0; byte < 0x90; ++byte) request.sampler.logit_bias.push_back({byte, -std::numeric_limits<float>::infinity()});
  const Heard heard = engine.run_one(std::move(request));
  ASSERT_EQ(heard.tokens.size(), 120u);
  for (const GenerationEvent& event : heard.events) EXPECT_TRUE(is_valid_utf8(event.text));
  EXPECT_EQ(heard.text, engine.tokenizer().decode(heard.tokens, true));
}

// Cancelling

class Cancelled : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(AfterSteps, Cancelled, testing::Values(0, 1, 2, 5, 9, 20));

TEST_P(Cancelled, EndsOneAndLeavesTheOthersAlone) {
  const auto prompts = eight_prompts();
  const auto expected = expected_answers(prompts);
  SmallEngine engine({.slots = 3, .batch_tokens = 10});  // after few steps some are queued, some in the prompt, some answer
  std::vector<Heard> heard(prompts.size());
  std::vector<RequestId> ids;
  for (size_t i = 0; i < prompts.size(); ++i) ids.push_back(engine.submit(greedy(prompts[i]), heard[i]));
  EXPECT_EQ(std::set<RequestId>(ids.begin(), ids.end()).size(), ids.size());
  for (int step = 0; step < GetParam(); ++step) engine.engine().step();
  const std::vector<Heard> before = heard;
  const auto is_victim = [](size_t i) { return i % 2 == 1; };
  for (size_t i = 0; i < ids.size(); ++i) {
    if (is_victim(i)) engine.engine().cancel(ids[i]);
  }
  engine.engine().cancel(12345);
  engine.engine().run();
  for (size_t i = 0; i < prompts.size(); ++i) {
    ASSERT_TRUE(heard[i].ended());
    if (!is_victim(i) || before[i].ended()) {
      EXPECT_EQ(heard[i].tokens, expected[i]) << i;
      EXPECT_EQ(heard[i].reason(), FinishReason::kLength);
    } else {
      EXPECT_EQ(heard[i].reason(), FinishReason::kCancelled) << i;
      EXPECT_EQ(heard[i].tokens, before[i].tokens) << "no token after the cancellation";
      EXPECT_EQ(heard[i].last().generated_tokens, before[i].tokens.size());
    }
  }
  EXPECT_FALSE(engine.engine().step());
  // The slots are free, and what they hold is what they say.
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(engine.run_one(greedy(prompts[i])).tokens, expected[i]);
}

TEST(EngineCancel, FromASinkAndFromAnotherThread) {
  SmallEngine engine({.slots = 2});
  Heard first, second;
  RequestId id = 0;
  id = engine.engine().submit(greedy(random_prompt(5, 1), 100), sink_of([&](const GenerationEvent& event) {
                                first.hear(event);
                                if (first.tokens.size() == 3) engine.engine().cancel(id);
                              }));
  const RequestId other = engine.submit(greedy(random_prompt(5, 2), 180), second);
  std::thread canceller([&] { engine.engine().cancel(other); });
  engine.engine().run();
  canceller.join();
  engine.engine().run();
  EXPECT_EQ(first.reason(), FinishReason::kCancelled);
  EXPECT_EQ(first.tokens.size(), 3u);
  EXPECT_TRUE(second.ended());
}

TEST(EngineSubmit, FromASinkTheNextRequestIsAnsweredToo) {
  SmallEngine engine({.slots = 1});
  const Tokens prompt = random_prompt(5, 1), next = random_prompt(6, 2);
  for (const bool by_cancelling : {false, true}) {
    Heard first, second;
    const RequestId id = engine.engine().submit(greedy(prompt, 4), sink_of([&](const GenerationEvent& event) {
                                                  first.hear(event);
                                                  if (event.finish) engine.submit(greedy(next), second);
                                                }));
    if (by_cancelling) engine.engine().cancel(id);
    engine.engine().run();
    EXPECT_EQ(first.reason(), by_cancelling ? FinishReason::kCancelled : FinishReason::kLength);
    EXPECT_EQ(second.tokens, PlainModel().greedy_answer(next, 24));
  }
}

// Failures

TEST(EngineFailure, NaNInAnyTensorIsReported) {
  const SmallLlama healthy(kSmallVocabulary);
  for (const auto& [name, tensor] : healthy.tensors) {
    for (const size_t at : {size_t{0}, tensor.values.size() - 1}) {
      SmallLlama damaged = healthy;
      damaged.tensors.at(name).values[at] = NAN;
      // The prompt has the first and the last token of the vocabulary.
      const Heard heard = SmallEngine({}, damaged).run_one(greedy({0, kSmallVocabulary - 1, 5}));
      EXPECT_EQ(heard.reason(), FinishReason::kFailed) << name << " at " << at;
      EXPECT_NE(heard.last().error.find("nan"), std::string::npos) << heard.last().error;
      EXPECT_TRUE(heard.tokens.empty());
      EXPECT_EQ(heard.text, "");
    }
  }
}

TEST(EngineFailure, NaNOfOneRequestDoesNotReachTheOthers) {
  SmallLlama damaged(kSmallVocabulary);
  constexpr TokenId kBad = 35;  // a token that no random prompt has
  for (size_t i = 0; i < 40; ++i) damaged.tensors.at("model.embed_tokens.weight").values[kBad * 40 + i] = NAN;
  std::fill_n(damaged.tensors.at("lm_head.weight").values.begin() + kBad * 40, 40, 0.0f);
  PlainModel plain(damaged);
  const Tokens healthy_prompt = random_prompt(40, 1),
               bad_prompt = joined(Tokens(healthy_prompt.begin(), healthy_prompt.begin() + 20), {kBad, 1, 2});
  const Tokens expected = plain.greedy_answer(healthy_prompt, 24);
  ASSERT_EQ(std::count(expected.begin(), expected.end(), kBad), 0);
  SmallEngine engine({.slots = 2, .batch_tokens = 16}, damaged);
  const auto heard = engine.run({greedy(bad_prompt), greedy(healthy_prompt), greedy(bad_prompt), greedy(healthy_prompt)});
  for (const size_t i : {0u, 2u}) {
    EXPECT_EQ(heard[i].reason(), FinishReason::kFailed);
    EXPECT_NE(heard[i].last().error.find("nan"), std::string::npos) << heard[i].last().error;
  }
  for (const size_t i : {1u, 3u}) EXPECT_EQ(heard[i].tokens, expected);
}

// Probabilities

double log_softmax(const std::vector<float>& logits, TokenId token) {
  double largest = -INFINITY, sum = 0.0;
  for (const float logit : logits) largest = std::max(largest, double{logit});
  for (const float logit : logits) sum += std::exp(double{logit} - largest);
  return double{logits[token]} - largest - std::log(sum);
}

TEST(EngineProbabilities, AreTheModels) {
  PlainModel plain;
  for (const size_t length : {1u, 2u, 90u}) {
    GenerationRequest request = greedy(random_prompt(length, length), 12);
    request.log_probabilities = request.prompt_log_probabilities = true;
    request.top_log_probabilities = 4;
    request.sampler.repeat_penalty = 1.3f;  // changes the choice, not the report
    const Tokens prompt = request.prompt;
    SmallEngine engine({.batch_tokens = 16});
    const Heard heard = engine.run({greedy(random_prompt(5, 3)), request})[1];
    const auto logits = plain.logits(joined(prompt, heard.tokens));
    ASSERT_EQ(heard.prompt_scores.size(), prompt.size() - 1);
    ASSERT_EQ(heard.scores.size(), 12u);
    if (length > 1) {
      EXPECT_EQ(heard.events.front().prompt_scores.size(), prompt.size() - 1) << "in the first event";
    }
    std::vector<TokenScore> all = heard.prompt_scores;
    all.insert(all.end(), heard.scores.begin(), heard.scores.end());
    const Tokens tokens = joined(prompt, heard.tokens);
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i].token, tokens[i + 1]);
      EXPECT_NEAR(double{all[i].log_probability}, log_softmax(logits[i], tokens[i + 1]), 1e-5);
      ASSERT_EQ(all[i].top.size(), 4u);
      EXPECT_EQ(all[i].top[0].token, std::max_element(logits[i].begin(), logits[i].end()) - logits[i].begin());
      for (const TokenLogProbability& top : all[i].top) {
        EXPECT_NEAR(double{top.log_probability}, log_softmax(logits[i], top.token), 1e-5);
      }
    }
  }
}

// What is refused

TEST(EngineSubmit, Refuses) {
  SmallEngine engine({.positions = 20});
  const auto refused = [&](const std::string& words, const GenerationRequest& request) {
    expect_error(ErrorCode::kUsage, words, [&] { engine.engine().submit(request, sink_of([](const GenerationEvent&) {})); });
  };
  refused("prompt", greedy({}));
  refused("token 37 ", greedy({1, kSmallVocabulary}));
  refused("37", greedy({1, UINT32_MAX}));
  refused("20 tokens", greedy(random_prompt(20, 1)));
  refused("context of 20", greedy(random_prompt(1234, 1)));
  refused("1234 tokens", greedy(random_prompt(1234, 1)));
  GenerationRequest request = greedy({1});
  request.top_log_probabilities = kMostReportedProbabilities + 1;
  refused("top_log_probabilities", request);
  request = greedy({1});
  request.stops = {""};
  refused("stop", request);
  request = greedy({1});
  request.sampler.temperature = -1;
  refused("temperature", request);
  request = greedy({1});
  request.sampler.logit_bias = {{kSmallVocabulary, 1.0f}};
  refused("logit_bias", request);
  EXPECT_FALSE(engine.engine().step()) << "a refused request is in the queue";
  EXPECT_EQ(engine.run_one(greedy(random_prompt(19, 1), 1)).tokens.size(), 1u);
}

TEST(EngineOptions, AStepHasRoomForATokenOfEachSlot) {
  expect_error(ErrorCode::kUsage, "slots", [] { SmallEngine({.slots = 5, .batch_tokens = 4}); });
  expect_error(ErrorCode::kUsage, "slots", [] { SmallEngine({.slots = 0}); });
  SmallEngine({.slots = 4, .batch_tokens = 4});
}

}  // namespace
}  // namespace tritllm
