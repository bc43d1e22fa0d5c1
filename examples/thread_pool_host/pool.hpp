// A host's own thread pool: a queue of tasks and the threads that take from it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  [[nodiscard]] int size() const { return static_cast<int>(workers_.size()); }
  void submit(std::function<void()> task);
  // Runs body over ranges that cover [0, n), at least `grain` items each but the last; returns when all are done. The
  // caller helps, so a call from inside a task cannot starve.
  void parallel_for(std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body);

 private:
  bool run_one();  // false when the queue is empty
  void work();

  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};
