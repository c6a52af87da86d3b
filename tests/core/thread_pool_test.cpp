// Owns the cases of core/thread_pool.h: each index once, a worker's number below threads(), exceptions out and the pool usable.
#include "core/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "core/error.h"

namespace tritllm {
namespace {

TEST(ThreadPool, CallsEachIndexOnce) {
  for (const unsigned threads : {1u, 2u, 3u, 16u}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    std::vector<int> calls(10000);
    std::atomic<bool> worker_in_range = true;
    pool.parallel_for(calls.size(), [&](size_t index, unsigned worker) {
      ++calls[index];
      if (worker >= threads) worker_in_range = false;
    });
    EXPECT_TRUE(worker_in_range);
    EXPECT_EQ(calls, std::vector<int>(calls.size(), 1)) << threads << " threads";
  }
}

TEST(ThreadPool, ZeroThreadsMeansOneForEachProcessor) {
  EXPECT_EQ(ThreadPool(0).threads(), std::max(1u, std::thread::hardware_concurrency()));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose own memory would not fit
// QEMU takes such a limit and does nothing with it.
bool address_space_can_be_limited() {
  rlimit former{}, found{};
  getrlimit(RLIMIT_AS, &former);
  const rlimit wide{rlim_t{1} << 46, former.rlim_max};
  setrlimit(RLIMIT_AS, &wide);
  getrlimit(RLIMIT_AS, &found);
  setrlimit(RLIMIT_AS, &former);
  return found.rlim_cur == wide.rlim_cur;
}

// In a process of its own, whose address space has no room for the stacks.
TEST(ThreadPool, ThreadsThatTheSystemRefusesAreAnError) {
  if (!address_space_can_be_limited()) GTEST_SKIP() << "this system does not limit the address space";
  const auto start_too_many = [] {
    const rlimit room{256u << 20, 256u << 20};
    setrlimit(RLIMIT_AS, &room);
    try {
      const ThreadPool pool(1000);
    } catch (const Error& error) {
      std::fputs(error.what(), stderr);
      std::_Exit(3);
    }
  };
  EXPECT_EXIT(start_too_many(), testing::ExitedWithCode(3), "options.threads: the system refused thread [0-9]+ of 1000.*or fewer");
}
#endif

TEST(ThreadPool, NoIndicesMeansNoCall) {
  ThreadPool pool(3);
  pool.parallel_for(0, [](size_t, unsigned) { FAIL(); });
}

TEST(ThreadPool, WorkersOfOneLoopHaveDifferentNumbers) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<bool> shared = false;
  pool.parallel_for(2000, [&](size_t, unsigned worker) {
    if (inside[worker].fetch_add(1) != 0) shared = true;
    std::this_thread::yield();
    inside[worker].fetch_sub(1);
  });
  EXPECT_FALSE(shared);
}

TEST(ThreadPool, BodiesAreNotCopied) {
  struct Body {
    std::atomic<size_t>& calls;
    Body(const Body&) = delete;
    explicit Body(std::atomic<size_t>& counter) : calls(counter) {}
    void operator()(unsigned) const { ++calls; }
    void operator()(size_t, unsigned) const { ++calls; }
  };
  ThreadPool pool(1);
  std::atomic<size_t> calls = 0;
  pool.parallel_for(3, Body(calls));
  EXPECT_EQ(calls, 3u);
  pool.parallel_for(3, Body(calls), Body(calls));
  EXPECT_EQ(calls, 7u);
}

TEST(ThreadPool, AWorkerPreparesOnceBeforeItsFirstIndex) {
  for (const unsigned threads : {1u, 2u, 16u}) {
    ThreadPool pool(threads);
    for (const size_t count : {1u, 3u, 1000u}) {
      std::vector<std::atomic<int>> prepared(threads), indices(threads);
      std::atomic<bool> in_order = true;
      const auto prepare = [&](unsigned worker) {
        if (indices[worker] != 0) in_order = false;
        ++prepared[worker];
      };
      pool.parallel_for(count, prepare, [&](size_t, unsigned worker) {
        if (prepared[worker] != 1) in_order = false;
        ++indices[worker];
        std::this_thread::yield();
      });
      EXPECT_TRUE(in_order);
      size_t taken = 0;
      for (unsigned worker = 0; worker < threads; ++worker) {
        EXPECT_EQ(prepared[worker], indices[worker] > 0 ? 1 : 0) << "worker " << worker << " of " << threads << ", " << count;
        taken += static_cast<size_t>(indices[worker]);
      }
      EXPECT_EQ(taken, count);
    }
  }
}

TEST(ThreadPool, AWorkerThatCannotPrepareTakesNoIndex) {
  ThreadPool pool(4);
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> calls = 0;
    const auto refuse = [](unsigned worker) { throw std::runtime_error(std::to_string(worker)); };
    EXPECT_THROW(pool.parallel_for(1000, refuse, [&](size_t, unsigned) { ++calls; }), std::runtime_error);
    EXPECT_EQ(calls, 0);
  }
}

TEST(ThreadPool, IterationsRunAtTheSameTime) {
  ThreadPool pool(3);
  std::atomic<int> arrived = 0;
  std::atomic<bool> met = true;
  pool.parallel_for(3, [&](size_t, unsigned) {
    ++arrived;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (arrived < 3 && met) {
      if (std::chrono::steady_clock::now() > deadline) met = false;
      std::this_thread::yield();
    }
  });
  EXPECT_TRUE(met);
}

TEST(ThreadPool, ManySmallLoopsFinish) {
  ThreadPool pool(4);
  std::atomic<uint64_t> sum = 0;
  for (int loop = 0; loop < 20000; ++loop) pool.parallel_for(3, [&](size_t index, unsigned) { sum += index; });
  EXPECT_EQ(sum, 60000u);
}

TEST(ThreadPool, ExceptionEndsTheLoopEarlyAndIsThrown) {
  for (const unsigned threads : {1u, 4u}) {
    ThreadPool pool(threads);
    std::atomic<int> calls = 0;
    const auto run = [&] {
      pool.parallel_for(1000000, [&](size_t index, unsigned) {
        ++calls;
        if (index == 5) throw std::runtime_error("at 5");
      });
    };
    EXPECT_THROW(run(), std::runtime_error);
    EXPECT_LT(calls, 1000000);
  }
}

TEST(ThreadPool, OneOfSeveralExceptionsIsThrownAndThePoolGoesOn) {
  ThreadPool pool(4);
  for (int round = 0; round < 200; ++round) {
    try {
      pool.parallel_for(8, [](size_t index, unsigned) { throw std::runtime_error(std::to_string(index)); });
      FAIL() << "nothing thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_LT(std::stoi(error.what()), 8);
    }
    std::atomic<int> calls = 0;
    pool.parallel_for(8, [&](size_t, unsigned) { ++calls; });
    ASSERT_EQ(calls, 8);
  }
}

}  // namespace
}  // namespace tritllm
