// Requests that are answered together: nothing but the prompt and the options decides a text, whatever pages are shared and
// whoever pauses. The oracle of texts is the model by itself, a token at a time.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/small_engine.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

std::vector<GenerationRequest> greedy_requests(const std::vector<Tokens>& prompts) {
  std::vector<GenerationRequest> requests;
  for (const Tokens& prompt : prompts) requests.push_back(greedy(prompt));
  return requests;
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
  for (const CacheType cache : {CacheType::kFloat32, CacheType::kFloat16, CacheType::kFloat8, CacheType::kInt8}) {
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

// The cost of a few prompt tokens says little about that of many, and an answer waits for them.
TEST(EngineSteps, APromptBesideAnAnswerGrowsByAQuarterAStep) {
  SmallEngine engine({.slots = 2, .positions = 700, .batch_tokens = 128});
  Heard answer, prompt;
  engine.submit(greedy(random_prompt(4, 70), 200), answer);
  while (answer.tokens.empty()) engine.engine().step();
  engine.submit(greedy(random_prompt(600, 71), 1), prompt);
  std::vector<uint64_t> taken;
  for (uint64_t before = engine.engine().metrics().prompt_tokens; prompt.tokens.empty();) {
    ASSERT_TRUE(engine.engine().step());
    const uint64_t now = engine.engine().metrics().prompt_tokens;
    if (now > before) taken.push_back(now - before);
    before = now;
  }
  ASSERT_GT(taken.size(), 10u);
  EXPECT_EQ(taken.front(), 1u);
  for (size_t i = 1; i < taken.size(); ++i) {
    EXPECT_LE(taken[i], taken[i - 1] + std::max<uint64_t>(1, taken[i - 1] / 4)) << "step " << i;
  }
  EXPECT_GT(*std::ranges::max_element(taken), 60u) << "an hour's budget has room for many";
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

}  // namespace
}  // namespace tritllm
