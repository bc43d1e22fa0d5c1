#include "pool.hpp"

#include <algorithm>
#include <latch>
#include <utility>

Pool::Pool(int threads) {
  workers_.reserve(static_cast<std::size_t>(threads));
  for (int i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
}

Pool::~Pool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  more_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::submit(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  more_.notify_one();
}

bool Pool::run_one() {
  std::function<void()> task;
  {
    const std::lock_guard lock(mutex_);
    if (tasks_.empty()) return false;
    task = std::move(tasks_.front());
    tasks_.pop_front();
  }
  task();
  return true;
}

void Pool::work() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      more_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
    }
    run_one();
  }
}

void Pool::parallel_for(std::int64_t n, std::int64_t grain,
                        const std::function<void(std::int64_t, std::int64_t)>& body) {
  const std::int64_t most = n / std::max<std::int64_t>(grain, 1);
  const std::int64_t ranges = std::clamp<std::int64_t>(most, 1, size() + 1);
  const std::int64_t share = n / ranges;
  const auto range = [&](std::int64_t i) { body(i * share, i + 1 == ranges ? n : (i + 1) * share); };
  std::latch done(ranges - 1);
  for (std::int64_t i = 1; i < ranges; ++i) {
    submit([&range, &done, i] {
      range(i);
      done.count_down();
    });
  }
  range(0);
  while (!done.try_wait() && run_one()) {
  }
  done.wait();
}
