// Requests that are answered together: nothing but the prompt and the options decides a text, and every way in which an answer
// ends. The oracle of texts is the model by itself, a token at a time.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/utf8.h"
#include "engine/small_engine.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

using Tokens = std::vector<TokenId>;

std::shared_ptr<EventSink> sink_of(std::function<void(const GenerationEvent&)> function) {
  return std::make_shared<FunctionSink>(std::move(function));
}

Tokens joined(const Tokens& a, const Tokens& b) {
  Tokens both = a;
  both.insert(both.end(), b.begin(), b.end());
  return both;
}

// Prompts from one token to more than a batch, two of them with a common beginning.
std::vector<Tokens> eight_prompts() {
  std::vector<Tokens> prompts;
  for (const size_t length : {1u, 2u, 7u, 16u, 33u, 64u, 100u}) prompts.push_back(random_prompt(length, length));
  prompts.push_back(joined(prompts[4], random_prompt(5, 99)));
  return prompts;
}

std::vector<GenerationRequest> greedy_requests(const std::vector<Tokens>& prompts) {
  std::vector<GenerationRequest> requests;
  for (const Tokens& prompt : prompts) requests.push_back(greedy(prompt));
  return requests;
}

std::vector<Tokens> expected_answers(const std::vector<Tokens>& prompts, CacheType cache = CacheType::kFloat32) {
  PlainModel plain(SmallLlama(kSmallVocabulary), cache);
  std::vector<Tokens> answers;
  for (const Tokens& prompt : prompts) answers.push_back(plain.greedy_answer(prompt, 24));
  return answers;
}

TEST(EngineText, TheOracleTellsPromptsApart) {
  const std::vector<Tokens> answers = expected_answers(eight_prompts());
  EXPECT_EQ(std::set<Tokens>(answers.begin(), answers.end()).size(), answers.size());
  for (const Tokens& answer : answers) EXPECT_GT(std::set<TokenId>(answer.begin(), answer.end()).size(), 1u) << "a dull answer";
}

TEST(EngineText, AloneAsTheModelGivesIt) {
  const auto prompts = eight_prompts();
  const auto expected = expected_answers(prompts);
  for (size_t i = 0; i < prompts.size(); ++i) {
    SmallEngine engine;
    const Heard heard = engine.run_one(greedy(prompts[i]));
    EXPECT_EQ(heard.tokens, expected[i]);
    EXPECT_EQ(heard.text, engine.tokenizer().decode(expected[i], true));
    EXPECT_EQ(heard.reason(), FinishReason::kLength);
    EXPECT_EQ(heard.last().prompt_tokens, prompts[i].size());
    EXPECT_EQ(heard.last().generated_tokens, 24u);
    EXPECT_EQ(heard.last().reused_tokens, 0u);
  }
}

struct Company {
  uint32_t slots, batch_tokens;
  unsigned threads;
  CacheType cache;
};

TEST(EngineText, TheSameInAnyCompanyChunkAndNumberOfThreads) {
  const auto prompts = eight_prompts();
  for (const CacheType cache : {CacheType::kFloat32, CacheType::kFloat16}) {
    const auto expected = expected_answers(prompts, cache);
    for (const Company& company : {Company{8, 64, 1, cache},
                                   {8, 8, 2, cache},
                                   {8, 9, 1, cache},
                                   {3, 7, 5, cache},
                                   {1, 1, 1, cache},
                                   {2, 200, 2, cache},
                                   {8, 512, 5, cache}}) {
      SmallEngine engine(
          {.slots = company.slots, .batch_tokens = company.batch_tokens, .threads = company.threads, .cache = cache});
      for (int round = 0; round < 2; ++round) {  // the second one reuses what the first left in the cache
        const auto heard = engine.run(greedy_requests(prompts));
        for (size_t i = 0; i < prompts.size(); ++i) {
          EXPECT_EQ(heard[i].tokens, expected[i]) << "prompt " << i << ", slots " << company.slots << ", batch "
                                                  << company.batch_tokens << ", threads " << company.threads << ", round " << round;
        }
      }
    }
  }
}

TEST(EngineText, TheSameWhenOthersComeAndGo) {
  const auto prompts = eight_prompts();
  const auto expected = expected_answers(prompts);
  SmallEngine engine({.slots = 3, .batch_tokens = 16});
  std::vector<Heard> heard(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    engine.submit(greedy(prompts[i], 24 - static_cast<uint32_t>(i)), heard[i]);
    for (size_t k = 0; k < 3 * i; ++k) engine.engine().step();
  }
  engine.engine().run();
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(heard[i].tokens, Tokens(expected[i].begin(), expected[i].end() - static_cast<long>(i))) << i;
  }
}

TEST(EngineText, DrawsDependOnTheSeedOnly) {
  const auto prompts = eight_prompts();
  const auto drawn = [&](uint32_t slots, uint64_t seed) {
    auto requests = greedy_requests(prompts);
    for (GenerationRequest& request : requests) request.sampler.temperature = 1, request.sampler.seed = seed;
    std::vector<Tokens> answers;
    for (const Heard& heard : SmallEngine({.slots = slots}).run(std::move(requests))) answers.push_back(heard.tokens);
    return answers;
  };
  const auto alone = drawn(1, 3);
  EXPECT_EQ(drawn(8, 3), alone);
  EXPECT_NE(drawn(8, 4), alone);
  EXPECT_NE(alone, expected_answers(prompts));
}

// Prefix reuse

TEST(EngineReuse, APromptThatWasThereIsNotComputedAgain) {
  PlainModel plain;
  const Tokens prompt = random_prompt(50, 1);
  SmallEngine engine({.slots = 1});
  const Tokens answer = engine.run_one(greedy(prompt)).tokens;
  const Heard again = engine.run_one(greedy(prompt));
  EXPECT_EQ(again.last().reused_tokens, 49u);
  EXPECT_EQ(again.tokens, answer);
  // A conversation goes on: the last token of an answer is never computed, so it is not in the cache.
  const Tokens longer = joined(joined(prompt, answer), random_prompt(9, 2));
  const Heard next = engine.run_one(greedy(longer));
  EXPECT_EQ(next.last().reused_tokens, prompt.size() + answer.size() - 1);
  EXPECT_EQ(next.tokens, plain.greedy_answer(longer, 24));
  // Another way on from within the prompt.
  const Tokens other = joined(Tokens(prompt.begin(), prompt.begin() + 20), {prompt[20] + 1, 3, 4});
  const Heard branch = engine.run_one(greedy(other));
  EXPECT_EQ(branch.last().reused_tokens, 20u);
  EXPECT_EQ(branch.tokens, plain.greedy_answer(other, 24));
}

TEST(EngineReuse, NothingIsReusedWhereThePromptIsScored) {
  const Tokens prompt = random_prompt(30, 1);
  SmallEngine engine({.slots = 1});
  engine.run_one(greedy(prompt));
  GenerationRequest request = greedy(prompt);
  request.prompt_log_probabilities = true;
  const Heard heard = engine.run_one(std::move(request));
  EXPECT_EQ(heard.last().reused_tokens, 0u);
  EXPECT_EQ(heard.prompt_scores.size(), prompt.size() - 1);
}

TEST(EngineReuse, AfterCancellationInThePromptOnlyWhatWasComputed) {
  PlainModel plain;
  const Tokens prompt = random_prompt(60, 1);
  SmallEngine engine({.slots = 1, .batch_tokens = 16});
  Heard heard;
  const RequestId id = engine.submit(greedy(prompt), heard);
  engine.engine().step();
  engine.engine().step();
  engine.engine().cancel(id);
  const Heard again = engine.run_one(greedy(prompt));
  EXPECT_EQ(again.last().reused_tokens, 32u);
  EXPECT_EQ(again.tokens, plain.greedy_answer(prompt, 24));
}

// Steps ahead

TEST(EngineAhead, TheSameTextsAsStepByStep) {
  const auto prompts = eight_prompts();
  const auto expected = expected_answers(prompts);
  SmallEngine engine({.slots = 3, .batch_tokens = 16, .asynchronous = true});
  std::vector<Heard> heard(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) engine.submit(greedy(prompts[i], 24 - static_cast<uint32_t>(i)), heard[i]);
  engine.engine().run();
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(heard[i].tokens, Tokens(expected[i].begin(), expected[i].end() - static_cast<long>(i))) << i;
  }
  EXPECT_GT(engine.steps_ahead(), 10);
  EXPECT_EQ(engine.engine().metrics().pages_used, 0u);
}

TEST(EngineAhead, DrawsAndSettingsThatNeedLogitsMix) {
  std::vector<GenerationRequest> requests;
  for (uint64_t i = 0; i < 5; ++i) {
    requests.push_back(greedy(random_prompt(6 + i, i)));
    requests.back().sampler.temperature = static_cast<float>(i % 3);
    requests.back().sampler.seed = i;
    if (i == 3) requests.back().sampler.repeat_penalty = 1.4f;
    if (i == 4) requests.back().log_probabilities = true;
  }
  const auto step_by_step = SmallEngine({.slots = 2}).run(requests);
  const auto ahead = SmallEngine({.slots = 2, .asynchronous = true}).run(requests);
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(ahead[i].tokens, step_by_step[i].tokens) << i;
}

TEST(EngineAhead, AnEndThatIsSeenAStepLateCutsNothingElse) {
  PlainModel plain;
  const Tokens prompt = random_prompt(9, 6), other = random_prompt(7, 5), answer = plain.greedy_answer(prompt, 24);
  const TokenId end = answer[7];
  const auto first = std::find(answer.begin(), answer.end(), end);
  for (const size_t cancelled_after : {0u, 5u}) {
    SmallEngine engine({.slots = 2, .end_tokens = {end}, .asynchronous = true});
    Heard ended, goes_on;
    engine.submit(greedy(prompt), ended);
    GenerationRequest request = greedy(other, 60);
    request.ignore_end_tokens = true;
    const RequestId id = engine.submit(std::move(request), goes_on);
    while (cancelled_after > 0 && goes_on.tokens.size() < cancelled_after) engine.engine().step();
    if (cancelled_after > 0) engine.engine().cancel(id);
    engine.engine().run();
    EXPECT_EQ(ended.tokens, Tokens(answer.begin(), first + 1));
    EXPECT_EQ(ended.reason(), FinishReason::kEndToken);
    EXPECT_EQ(goes_on.reason(), cancelled_after > 0 ? FinishReason::kCancelled : FinishReason::kLength);
    const Tokens expected = plain.greedy_answer(other, goes_on.tokens.size());
    EXPECT_EQ(goes_on.tokens, expected);
    EXPECT_EQ(engine.run_one(greedy(other, 5)).tokens, Tokens(expected.begin(), expected.begin() + 5)) << "afterwards";
  }
}

TEST(EngineAhead, NaNEndsTheRequest) {
  SmallLlama damaged(kSmallVocabulary);
  damaged.tensors.at("lm_head.weight").values[7] = NAN;
  SmallEngine engine({.asynchronous = true}, damaged);
  const Heard heard = engine.run_one(greedy({1, 2, 3}));
  EXPECT_EQ(heard.reason(), FinishReason::kFailed);
  EXPECT_NE(heard.last().error.find("nan"), std::string::npos);
}

// Pages

// Prompts of three pages of 512 positions with a common beginning of 1,200 tokens.
struct CommonBeginning {
  Tokens common = random_prompt(1200, 50);
  Tokens first = joined(common, random_prompt(30, 51)), second = joined(common, random_prompt(40, 52));
};

TEST(EnginePages, LiveSequencesShareTheirCommonBeginning) {
  const CommonBeginning prompts;
  const Tokens first_alone = SmallEngine({.positions = 1500}).run_one(greedy(prompts.first)).tokens,
               second_alone = SmallEngine({.positions = 1500}).run_one(greedy(prompts.second)).tokens;
  for (const bool together : {false, true}) {
    SmallEngine engine({.slots = 2, .positions = 1500});
    Heard first, second;
    engine.submit(greedy(prompts.first), first);
    while (!together && first.tokens.empty()) engine.engine().step();
    engine.submit(greedy(prompts.second), second);
    uint32_t most_shared = 0, most_used = 0;
    while (engine.engine().step()) {
      most_shared = std::max(most_shared, engine.engine().metrics().pages_shared);
      most_used = std::max(most_used, engine.engine().metrics().pages_used);
    }
    EXPECT_EQ(first.tokens, first_alone);
    EXPECT_EQ(second.tokens, second_alone);
    EXPECT_EQ(second.last().reused_tokens, 1200u) << "submitted together: " << together;
    EXPECT_EQ(most_shared, 2u);
    EXPECT_EQ(most_used, 4u) << "two shared pages, and one for each end";
    EXPECT_EQ(engine.engine().metrics().prompt_tokens, 1230u + 40u);
    EXPECT_EQ(engine.engine().metrics().pages_used, 0u);
  }
}

TEST(EnginePages, UnderPressureTheLeastRecentlyUsedAreOverwritten) {
  const Tokens prompts[] = {random_prompt(600, 60), random_prompt(600, 61), random_prompt(600, 62)};
  std::vector<Tokens> alone;
  for (const Tokens& prompt : prompts) alone.push_back(SmallEngine({.positions = 1000}).run_one(greedy(prompt)).tokens);
  SmallEngine engine({.slots = 2, .positions = 1000, .cache_tokens = 5 * 512});
  for (const size_t i : {0u, 1u}) EXPECT_EQ(engine.run_one(greedy(prompts[i])).tokens, alone[i]);
  EXPECT_EQ(engine.run_one(greedy(prompts[0])).last().reused_tokens, 599u);
  EXPECT_EQ(engine.run_one(greedy(prompts[2])).tokens,
            alone[2]);  // needs two pages: one is free, the other held the end of prompt 1
  const Heard again = engine.run_one(greedy(prompts[0]));
  EXPECT_EQ(again.tokens, alone[0]);
  EXPECT_EQ(again.last().reused_tokens, 599u);
  const Heard evicted = engine.run_one(greedy(prompts[1]));
  EXPECT_EQ(evicted.tokens, alone[1]);
  EXPECT_LT(evicted.last().reused_tokens, 599u);
}

TEST(EnginePages, ARequestWaitsUntilThereAreEnough) {
  const CommonBeginning prompts;
  const Tokens other = random_prompt(900, 70), other_alone = SmallEngine({.positions = 1500}).run_one(greedy(other)).tokens;
  SmallEngine engine({.slots = 2, .positions = 1500, .cache_tokens = 3 * 512});
  uint32_t most_live = 0;
  std::vector<Heard> heard(2);
  engine.submit(greedy(prompts.first), heard[0]);
  engine.submit(greedy(other), heard[1]);
  while (engine.engine().step()) most_live = std::max(most_live, engine.engine().metrics().live);
  EXPECT_EQ(most_live, 1u);
  EXPECT_EQ(heard[1].tokens, other_alone);
  expect_error(ErrorCode::kUsage, "cache_tokens", [] { SmallEngine({.positions = 1500, .cache_tokens = 512}); });
}

// Pauses and the queue

class PausingSink final : public EventSink {
 public:
  explicit PausingSink(Heard& heard) : heard_(heard) {}
  bool accept(GenerationEvent event) noexcept override {
    heard_.hear(event);
    return false;
  }

 private:
  Heard& heard_;
};

TEST(EnginePause, AFullSinkStopsItsOwnRequestOnly) {
  const Tokens prompt = random_prompt(9, 1), other = random_prompt(12, 2);
  PlainModel plain;
  SmallEngine engine({.slots = 2});
  Heard paused, free;
  const RequestId id = engine.engine().submit(greedy(prompt), std::make_shared<PausingSink>(paused));
  engine.submit(greedy(other), free);
  engine.engine().run();
  EXPECT_EQ(paused.tokens.size(), 1u);
  EXPECT_EQ(free.tokens, plain.greedy_answer(other, 24));
  while (!paused.ended()) {
    const size_t before = paused.tokens.size();
    engine.engine().resume(id);
    engine.engine().run();
    EXPECT_EQ(paused.tokens.size(), before + 1);
  }
  EXPECT_EQ(paused.tokens, plain.greedy_answer(prompt, 24));
}

TEST(EngineQueue, IsBounded) {
  SmallEngine engine({.slots = 1, .queued = 2});
  std::vector<Heard> heard(3);
  engine.submit(greedy({1}), heard[0]);
  engine.submit(greedy({2}), heard[1]);
  EXPECT_FALSE(engine.engine().try_submit(greedy({3}), sink_of([](const GenerationEvent&) {})).has_value());
  expect_error(ErrorCode::kUsage, "queue", [&] { engine.submit(greedy({3}), heard[2]); });
  EXPECT_EQ(engine.engine().metrics().queued, 2u);
  engine.engine().run();
  EXPECT_TRUE(heard[0].ended() && heard[1].ended());
  engine.submit(greedy({3}), heard[2]);
  engine.engine().run();
  EXPECT_TRUE(heard[2].ended());
}

TEST(EngineFailure, AFailedEngineEndsEveryRequestWithTheError) {
  SmallEngine engine({.slots = 1});
  std::vector<Heard> heard(2);
  for (Heard& one : heard) engine.submit(greedy(random_prompt(5, 1)), one);
  engine.engine().step();
  engine.engine().fail_all(std::make_exception_ptr(std::runtime_error("the device is gone")));
  for (const Heard& one : heard) {
    ASSERT_TRUE(one.ended());
    EXPECT_EQ(one.reason(), FinishReason::kFailed);
    EXPECT_EQ(one.last().error, "the device is gone");
  }
  EXPECT_FALSE(engine.engine().has_requests());
}

// Ends of answers

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
