// The runtime's own threads and scratch memory: what default_context() is made of.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "core/op.hpp"

namespace mambasdk {

// A fork-join pool for one caller at a time. A call that finds the pool busy (a nested call, or a second thread's) runs
// its whole range inline, so calls never wait for each other and cannot deadlock. Workers spin for a short while after
// a call, because the calls of a decode step are microseconds apart, and then sleep.
class ThreadPool {
 public:
  explicit ThreadPool(int threads) : limit_(threads) {}
  ~ThreadPool() { shut_down(); }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Splits [0, n) into at most `threads()` equal ranges of at least `grain` items; the caller takes part and also takes
  // the ranges that no worker has begun. `body` must not throw.
  void run(std::int64_t n, std::int64_t grain, Parallel::Body body, void* arg) noexcept;
  [[nodiscard]] Parallel parallel() noexcept;

  [[nodiscard]] int threads() const noexcept { return limit_.load(std::memory_order_relaxed); }
  void set_threads(int threads) noexcept { limit_.store(threads, std::memory_order_relaxed); }
  // Joins the workers; later calls run inline. While a call is in progress the workers are left alone instead.
  void shut_down() noexcept;

 private:
  struct Job {
    Parallel::Body body;
    void* arg;
    std::int64_t n;
    std::int64_t ranges;
  };

  void work() noexcept;
  bool run_next_range() noexcept;  // false when every range is taken
  void start_workers(int count) noexcept;

  std::atomic<int> limit_;
  std::atomic<bool> busy_{false};
  std::atomic<bool> stop_{false};
  Job job_{};
  // generation (32 bits) | ranges (16) | ranges taken (16). One word, so that a worker that comes late to a finished
  // job cannot take a range of the next one by mistake.
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<std::int32_t> unfinished_{0};
  alignas(64) std::atomic<std::int32_t> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable finished_;
  std::vector<std::thread> workers_;
};

// 64-byte aligned blocks. Recently released ones are kept, up to a bound, because fresh pages cost more than the
// kernels that use them. Safe from any thread.
class AlignedAllocator {
 public:
  AlignedAllocator() = default;
  ~AlignedAllocator();
  AlignedAllocator(const AlignedAllocator&) = delete;
  AlignedAllocator& operator=(const AlignedAllocator&) = delete;

  [[nodiscard]] void* allocate(std::size_t bytes);  // Error(out_of_memory)
  void release(void* data, std::size_t bytes) noexcept;

 private:
  struct Block {
    void* data;
    std::size_t capacity;
  };
  static constexpr std::size_t kMaxBlocks = 16;
  static constexpr std::size_t kMaxBytes = std::size_t{64} << 20;

  std::mutex mutex_;
  Block blocks_[kMaxBlocks]{};
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

// Threads of default_context(). The default is the number of CPUs this process may use; the environment variable
// MAMBASDK_NUM_THREADS, read once, replaces it. Error(invalid_argument) unless 1 <= threads <= 1024.
[[nodiscard]] int num_threads();
void set_num_threads(int threads);

}  // namespace mambasdk
