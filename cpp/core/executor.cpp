// Fork-join thread pool, scratch allocator, and the default context over both.
#include "core/executor.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <string>
#include <system_error>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define MAMBASDK_HAS_FORK 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define MAMBASDK_KEEP_BLOCKS 0  // a reused block would hide a use after release
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MAMBASDK_KEEP_BLOCKS 0
#endif
#endif
#if !defined(MAMBASDK_KEEP_BLOCKS)
#define MAMBASDK_KEEP_BLOCKS 1
#endif

namespace mambasdk {
namespace {

constexpr int kMaxThreads = 1024;
constexpr std::chrono::microseconds kSpinTime{50};

inline void pause_cpu() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Polls `done` for kSpinTime; false when it is still false then.
template <class F>
bool spin_until(F&& done) noexcept {
  for (int i = 0; i < 64; ++i) {
    if (done()) return true;
    pause_cpu();
  }
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return done();
}

constexpr std::uint64_t kTakenMask = 0xffff;
constexpr std::uint64_t ranges_of(std::uint64_t ticket) {
  return (ticket >> 16) & 0xffff;
}
constexpr std::uint64_t taken_of(std::uint64_t ticket) {
  return ticket & kTakenMask;
}

}  // namespace

void ThreadPool::start_workers(int count) noexcept {
  try {
    while (static_cast<int>(workers_.size()) < count) workers_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    // The operating system has no more threads for us: the ones that exist, or the caller alone, do the work.
  } catch (const std::bad_alloc&) {
  }
}

bool ThreadPool::run_next_range() noexcept {
  std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
  do {
    if (taken_of(ticket) >= ranges_of(ticket)) return false;
  } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire));
  // The job stays as it is until this range is finished.
  const auto i = static_cast<std::int64_t>(taken_of(ticket));
  const std::int64_t share = job_.n / job_.ranges;
  const std::int64_t rest = job_.n % job_.ranges;
  const std::int64_t begin = i * share + std::min(i, rest);
  const std::int64_t end = begin + share + (i < rest ? 1 : 0);
  job_.body(job_.arg, begin, end);
  if (unfinished_.fetch_sub(1, std::memory_order_seq_cst) == 1 && caller_sleeps_.load(std::memory_order_seq_cst)) {
    const std::lock_guard lock(mutex_);
    finished_.notify_one();
  }
  return true;
}

void ThreadPool::work() noexcept {
  const auto has_work = [this] {
    const std::uint64_t ticket = ticket_.load(std::memory_order_seq_cst);
    return taken_of(ticket) < ranges_of(ticket) || stop_.load(std::memory_order_relaxed);
  };
  while (!stop_.load(std::memory_order_acquire)) {
    if (run_next_range() || spin_until(has_work)) continue;
    std::unique_lock lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, has_work);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
}

void ThreadPool::run(std::int64_t n, std::int64_t grain, Parallel::Body body, void* arg) noexcept {
  if (n <= 0) return;
  const std::int64_t ranges = std::min<std::int64_t>(threads(), n / std::max<std::int64_t>(grain, 1));
  if (ranges <= 1 || busy_.exchange(true, std::memory_order_acquire)) {
    body(arg, 0, n);
    return;
  }
  if (stop_.load(std::memory_order_acquire)) {
    busy_.store(false, std::memory_order_release);
    body(arg, 0, n);
    return;
  }
  start_workers(static_cast<int>(ranges) - 1);
  job_ = Job{body, arg, n, ranges};
  unfinished_.store(static_cast<std::int32_t>(ranges), std::memory_order_relaxed);
  const std::uint64_t generation = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
  ticket_.store(generation << 32 | static_cast<std::uint64_t>(ranges) << 16, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    const std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  while (run_next_range()) {
  }
  const auto done = [this] { return unfinished_.load(std::memory_order_seq_cst) == 0; };
  if (!spin_until(done)) {
    std::unique_lock lock(mutex_);
    caller_sleeps_.store(true, std::memory_order_seq_cst);
    finished_.wait(lock, done);
    caller_sleeps_.store(false, std::memory_order_relaxed);
  }
  busy_.store(false, std::memory_order_release);
}

Parallel ThreadPool::parallel() noexcept {
  return {this, [](void* self, std::int64_t n, std::int64_t grain, Parallel::Body body, void* arg) {
            static_cast<ThreadPool*>(self)->run(n, grain, body, arg);
          }};
}

void ThreadPool::shut_down() noexcept {
  stop_.store(true, std::memory_order_seq_cst);
  if (busy_.exchange(true, std::memory_order_acquire)) {
    // Only at exit from inside a kernel, or beside one: nobody can wait for these threads any more.
    for (std::thread& worker : workers_) worker.detach();
    workers_.clear();
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
  busy_.store(false, std::memory_order_release);
}

namespace {

// Sizes are rounded up to an eighth of their power of two, so that a released block fits the next call of a similar
// shape.
std::size_t capacity_for(std::size_t bytes) {
  if (bytes <= 1024) return 1024;
  const std::size_t step = std::max<std::size_t>(64, std::bit_floor(bytes - 1) / 8);
  return (bytes + step - 1) / step * step;
}

}  // namespace

AlignedAllocator::~AlignedAllocator() {
  for (std::size_t i = 0; i < count_; ++i) std::free(blocks_[i].data);
}

void* AlignedAllocator::allocate(std::size_t bytes) {
  if (bytes > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / 2) {
    fail(ErrorCode::out_of_memory, "scratch memory: ", bytes, " bytes asked for, more than an address space holds");
  }
  const std::size_t capacity = capacity_for(bytes);
  if (MAMBASDK_KEEP_BLOCKS) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = count_; i-- > 0;) {  // the most recent first: its lines may still be in the cache
      if (blocks_[i].capacity != capacity) continue;
      void* data = blocks_[i].data;
      std::move(blocks_ + i + 1, blocks_ + count_, blocks_ + i);
      --count_;
      bytes_ -= capacity;
      return data;
    }
  }
  void* data = std::aligned_alloc(64, capacity);
  if (data == nullptr) {
    fail(ErrorCode::out_of_memory, "scratch memory: the operating system has no ", capacity,
         " bytes; use a smaller batch or length");
  }
  return data;
}

void AlignedAllocator::release(void* data, std::size_t bytes) noexcept {
  if (data == nullptr) return;
  const std::size_t capacity = capacity_for(bytes);
  if (MAMBASDK_KEEP_BLOCKS && capacity <= kMaxBytes) {
    const std::lock_guard lock(mutex_);
    std::size_t drop = 0;  // the oldest go first
    std::size_t kept = bytes_;
    while (drop < count_ && (count_ - drop == kMaxBlocks || kept + capacity > kMaxBytes))
      kept -= blocks_[drop++].capacity;
    for (std::size_t i = 0; i < drop; ++i) std::free(blocks_[i].data);
    std::move(blocks_ + drop, blocks_ + count_, blocks_);
    count_ -= drop;
    blocks_[count_++] = Block{data, capacity};
    bytes_ = kept + capacity;
    return;
  }
  std::free(data);
}

namespace {

int usable_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::clamp(CPU_COUNT(&set), 1, kMaxThreads);
#endif
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

int initial_threads() {
  const char* text = std::getenv("MAMBASDK_NUM_THREADS");
  if (text == nullptr || *text == '\0') return usable_cpus();
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 1 || value > kMaxThreads) {
    fail(ErrorCode::invalid_argument, "MAMBASDK_NUM_THREADS is \"", text, "\", expected a whole number from 1 to ",
         kMaxThreads);
  }
  return static_cast<int>(value);
}

struct Executor {
  explicit Executor(int threads) : pool(threads) {}
  ThreadPool pool;
  AlignedAllocator memory;
};

// Owns the process's executor. It is replaced, not reused, in a forked child: the child has no worker threads, and
// locks of the old one may have been held at the time of the fork.
class ExecutorOwner {
 public:
  ExecutorOwner() : current_(new Executor(initial_threads())) {
#if defined(MAMBASDK_HAS_FORK)
    pthread_atfork(nullptr, nullptr, [] { instance().replace_after_fork(); });
#endif
  }
  // The executor itself is never deleted: static objects that die later may still run kernels, inline.
  ~ExecutorOwner() { get().pool.shut_down(); }

  static ExecutorOwner& instance() {
    static ExecutorOwner owner;
    return owner;
  }
  [[nodiscard]] Executor& get() const noexcept { return *current_.load(std::memory_order_acquire); }

 private:
  void replace_after_fork() noexcept { current_.store(new Executor(get().pool.threads()), std::memory_order_release); }

  std::atomic<Executor*> current_;
};

class DefaultContext final : public Context {
 public:
  [[nodiscard]] Parallel parallel() const override { return ExecutorOwner::instance().get().pool.parallel(); }
  [[nodiscard]] void* allocate(std::size_t bytes) const override {
    return ExecutorOwner::instance().get().memory.allocate(bytes);
  }
  void release(void* data, std::size_t bytes) const noexcept override {
    ExecutorOwner::instance().get().memory.release(data, bytes);
  }
};

}  // namespace

const Context& default_context() {
  static const DefaultContext context;
  return context;
}

int num_threads() {
  return ExecutorOwner::instance().get().pool.threads();
}

void set_num_threads(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    fail(ErrorCode::invalid_argument, "set_num_threads: ", threads, " threads, expected 1 to ", kMaxThreads);
  }
  ExecutorOwner::instance().get().pool.set_threads(threads);
}

}  // namespace mambasdk
