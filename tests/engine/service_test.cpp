// A service computes on its own thread: requests from several threads, cancelling, pausing, draining, and its end.
#include "engine/service.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/small_engine.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

// Collects the events of a request; wait() returns when it has ended.
class WaitingSink final : public EventSink {
 public:
  explicit WaitingSink(bool pauses = false) : pauses_(pauses) {}
  bool accept(GenerationEvent event) noexcept override {
    const std::lock_guard lock(mutex_);
    heard_.hear(event);
    changed_.notify_all();
    return !pauses_;
  }
  Heard wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return heard_.ended(); });
    return heard_;
  }
  void wait_for_tokens(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return heard_.tokens.size() >= count; });
  }

 private:
  bool pauses_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Heard heard_;
};

class Service : public testing::Test {
 protected:
  ThreadPool pool{1};
  std::unique_ptr<Backend> backend = make_cpu_backend(pool, kernels::active_table());
  Tokenizer tokenizer = letters_tokenizer();
  Model model{SmallLlama(kSmallVocabulary).files(), {4000, 64}, *backend};
  EngineService service{model, tokenizer, {}, {.slots = 3, .cache = CacheType::kFloat32, .queued = 100}};
};

TEST_F(Service, AnswersRequestsFromSeveralThreads) {
  PlainModel plain;
  std::vector<std::vector<TokenId>> prompts, expected;
  for (uint64_t i = 0; i < 12; ++i) {
    prompts.push_back(random_prompt(5 + 3 * i, i));
    expected.push_back(plain.greedy_answer(prompts.back(), 24));
  }
  std::vector<std::thread> clients;
  for (size_t i = 0; i < prompts.size(); ++i) {
    clients.emplace_back([&, i] {
      const auto sink = std::make_shared<WaitingSink>();
      ASSERT_TRUE(service.try_submit(greedy(prompts[i]), sink));
      EXPECT_EQ(sink->wait().tokens, expected[i]);
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST_F(Service, CancelsWhatRunsAndWhatWaits) {
  std::vector<std::shared_ptr<WaitingSink>> sinks;
  std::vector<RequestId> ids;
  for (uint64_t i = 0; i < 6; ++i) {
    sinks.push_back(std::make_shared<WaitingSink>());
    ids.push_back(service.try_submit(greedy(random_prompt(5, i), 3900), sinks.back()).value());
  }
  sinks[0]->wait_for_tokens(3);
  for (const RequestId id : ids) service.cancel(id);
  for (const auto& sink : sinks) EXPECT_EQ(sink->wait().reason(), FinishReason::kCancelled);
}

TEST_F(Service, APausedRequestGoesOnWhenResumed) {
  const auto prompt = random_prompt(9, 1);
  const auto sink = std::make_shared<WaitingSink>(/*pauses=*/true);
  const RequestId id = service.try_submit(greedy(prompt, 5), sink).value();
  for (size_t tokens = 1; tokens < 5; ++tokens) {
    sink->wait_for_tokens(tokens);
    service.resume(id);
  }
  EXPECT_EQ(sink->wait().tokens, PlainModel().greedy_answer(prompt, 5));
}

TEST_F(Service, DrainEndsWhatIsThereAndRefusesMore) {
  std::vector<std::shared_ptr<WaitingSink>> sinks;
  for (uint64_t i = 0; i < 6; ++i) {
    sinks.push_back(std::make_shared<WaitingSink>());
    ASSERT_TRUE(service.try_submit(greedy(random_prompt(5, i), 40), sinks.back()));
  }
  service.drain();
  for (const auto& sink : sinks) EXPECT_EQ(sink->wait().tokens.size(), 40u);
  expect_error(ErrorCode::kUsage, "shutting down", [&] { service.try_submit(greedy({1}), sinks[0]); });
}

TEST_F(Service, ItsEndCancelsWhatIsLeft) {
  const auto sink = std::make_shared<WaitingSink>();
  {
    EngineService short_lived(model, tokenizer, {}, {.slots = 1, .cache = CacheType::kFloat32});
    ASSERT_TRUE(short_lived.try_submit(greedy(random_prompt(5, 1), 3900), sink));
    sink->wait_for_tokens(1);
  }
  EXPECT_EQ(sink->wait().reason(), FinishReason::kCancelled);
}

}  // namespace
}  // namespace tritllm
