// The thread pool covers every index once, from any thread, nested, after a fork, and for any number of threads.
#include "core/executor.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <limits>
#include <numeric>

namespace mambasdk {
namespace {

std::int64_t sum_in_parallel(const Parallel& parallel, std::int64_t n, std::int64_t grain) {
  std::atomic<std::int64_t> sum{0};
  parallel(n, grain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t part = 0;
    for (std::int64_t i = begin; i < end; ++i) part += i;
    sum.fetch_add(part);
  });
  return sum.load();
}

TEST(ThreadPool, CoversEveryIndexOnceWithRangesOfAtLeastTheGrain) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const std::int64_t n : {0, 1, 2, 3, 7, 64, 1000}) {
      for (const std::int64_t grain : {1, 3, 500, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
        pool.parallel()(n, grain, [&](std::int64_t begin, std::int64_t end) {
          EXPECT_LT(begin, end);
          EXPECT_GE(end - begin, std::min(n, grain));
          for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
        });
        for (const auto& count : seen) EXPECT_EQ(count.load(), 1);
      }
    }
  }
}

TEST(ThreadPool, NestedCallsRunInline) {
  ThreadPool pool(4);
  const Parallel parallel = pool.parallel();
  std::atomic<std::int64_t> total{0};
  parallel(8, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) total += sum_in_parallel(parallel, 100, 1);
  });
  EXPECT_EQ(total.load(), 8 * 4950);
}

TEST(ThreadPool, SurvivesManyCallersWhileTheThreadCountChanges) {
  ThreadPool pool(3);
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&, c] {
      for (std::int64_t i = 0; i < 2000; ++i) {
        const std::int64_t n = (i * 7 + c) % 97;
        EXPECT_EQ(sum_in_parallel(pool.parallel(), n, 1 + i % 5), n * (n - 1) / 2);
        if (i % 500 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));  // lets the workers fall asleep
      }
    });
  }
  std::thread tuner([&] {
    for (int t = 1; !stop.load(); t = t % 6 + 1) {
      pool.set_threads(t);
      std::this_thread::yield();
    }
  });
  for (std::thread& caller : callers) caller.join();
  stop = true;
  tuner.join();
}

TEST(ThreadPool, WorkersWakeUpAfterSleeping) {
  ThreadPool pool(2);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(sum_in_parallel(pool.parallel(), 1000, 1), 499500);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  // Both halves must be in flight together: each waits for the other, which a pool without a live worker could not
  // pass.
  std::atomic<int> arrived{0};
  bool met[2] = {false, false};
  pool.parallel()(2, 1, [&](std::int64_t begin, std::int64_t end) {
    if (end - begin == 2) return;
    ++arrived;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (arrived.load() < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    met[begin] = arrived.load() == 2;
  });
  EXPECT_TRUE(met[0] && met[1]);
}

TEST(ThreadPool, RunsInlineAfterShutDown) {
  ThreadPool pool(2);
  EXPECT_EQ(sum_in_parallel(pool.parallel(), 100, 1), 4950);
  pool.shut_down();
  EXPECT_EQ(sum_in_parallel(pool.parallel(), 100, 1), 4950);
}

TEST(DefaultContext, WorksInAForkedChild) {
#if defined(MAMBASDK_SANITIZES_THREAD)
  GTEST_SKIP() << "ThreadSanitizer refuses threads in a forked child";
#endif
  const int threads = num_threads();
  set_num_threads(2);
  ASSERT_EQ(sum_in_parallel(default_context().parallel(), 1000, 1), 499500);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const bool right = sum_in_parallel(default_context().parallel(), 1000, 1) == 499500 && num_threads() == 2;
    const Context::Workspace scratch = default_context().workspace(1 << 20);
    std::memset(scratch.get(), 1, 1 << 20);
    _exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  set_num_threads(threads);
}

TEST(DefaultContext, RefusesImpossibleThreadCounts) {
  const int threads = num_threads();
  EXPECT_GE(threads, 1);
  EXPECT_THROW(set_num_threads(0), Error);
  EXPECT_THROW(set_num_threads(-3), Error);
  EXPECT_THROW(set_num_threads(1 << 20), Error);
  EXPECT_EQ(num_threads(), threads);
}

TEST(AlignedAllocator, BlocksAreAlignedDisjointAndReusable) {
  AlignedAllocator memory;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::pair<unsigned char*, std::size_t>> blocks;
    for (std::size_t bytes = 0; bytes < (std::size_t{3} << 20); bytes = bytes * 2 + 13) {
      auto* data = static_cast<unsigned char*>(memory.allocate(bytes));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0u);
      std::memset(data, static_cast<int>(blocks.size()), bytes);
      blocks.emplace_back(data, bytes);
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      for (std::size_t j = 0; j < blocks[i].second; ++j) ASSERT_EQ(blocks[i].first[j], i);
    }
    for (const auto& [data, bytes] : blocks) memory.release(data, bytes);
  }
}

TEST(AlignedAllocator, ImpossibleSizesAreErrors) {
  AlignedAllocator memory;
  for (const std::size_t bytes :
       {std::numeric_limits<std::size_t>::max(), std::numeric_limits<std::size_t>::max() / 2}) {
    try {
      static_cast<void>(memory.allocate(bytes));
      FAIL() << "no error for " << bytes << " bytes";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    }
  }
}

TEST(AlignedAllocator, IsSafeFromSeveralThreads) {
  AlignedAllocator memory;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 500; ++i) {
        const std::size_t bytes = 1000 + (i % 7) * 3000;
        auto* data = static_cast<unsigned char*>(memory.allocate(bytes));
        std::memset(data, t, bytes);
        EXPECT_EQ(data[bytes / 2], t);
        memory.release(data, bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace mambasdk
