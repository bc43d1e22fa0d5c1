// Objects of the library that belong to one thread at a time, shared by Python threads: a second one waits its turn.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <utility>

#include "mambasdk/mambasdk.hpp"

namespace mambasdk::python {

template <class T>
class Exclusive {
 public:
  explicit Exclusive(T held) : held_(std::move(held)) {}

  // f(T&), without the GIL, when no other thread is at it. Throws Error where this thread is (from a callback).
  template <class F>
  auto use(F&& f) {
    const pybind11::gil_scoped_release unlocked;  // before the wait: who is at it may need the GIL
    if (user_.load() == std::this_thread::get_id()) {
      throw Error(
          MAMBASDK_ERROR_INVALID_ARGUMENT, "callback",
          "this is used by the call whose callback this is; use it when the call has returned, or make another");
    }
    const std::lock_guard turn(mutex_);
    const Mark mark(user_);
    return f(held_);
  }

 private:
  struct Mark {
    explicit Mark(std::atomic<std::thread::id>& user) : user_(user) { user_ = std::this_thread::get_id(); }
    ~Mark() { user_ = std::thread::id(); }
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;
    std::atomic<std::thread::id>& user_;
  };

  T held_;
  std::mutex mutex_;
  std::atomic<std::thread::id> user_{};
};

}  // namespace mambasdk::python
