// For the benchmarks of kernels bound by memory: the same traffic with no work, measured in the same run.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <new>
#include <vector>

#include "core/executor.hpp"
#include "limits/limits.hpp"

namespace mambasdk::bench {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Arrays at a multiple of 64 bytes, as tensors are: elsewhere every vector would touch two lines.
template <class T>
struct AlignedAllocator {
  using value_type = T;
  static constexpr std::align_val_t kAlignment{64};

  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kAlignment)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, kAlignment); }
  bool operator==(const AlignedAllocator&) const { return true; }
};
template <class T>
using Array = std::vector<T, AlignedAllocator<T>>;

// `inputs` arrays to read and `outputs` arrays to write, `bytes` each.
class BandwidthLimit {
 public:
  BandwidthLimit(int inputs, int outputs, std::int64_t bytes)
      : count_((bytes + 3) / 4),
        memory_(static_cast<std::size_t>(inputs + outputs), Array<float>(static_cast<std::size_t>(count_), 1.0f)) {
    for (Array<float>& array : memory_) {
      if (in_.size() < static_cast<std::size_t>(inputs)) {
        in_.push_back(array.data());
      } else {
        out_.push_back(array.data());
      }
    }
  }
  void run() const {
    benchmark::DoNotOptimize(MAMBASDK_PICK(limit_bandwidth)(in_.data(), static_cast<int>(in_.size()), out_.data(),
                                                            static_cast<int>(out_.size()), count_,
                                                            default_context().parallel()));
  }

 private:
  std::int64_t count_;
  std::vector<Array<float>> memory_;
  std::vector<const float*> in_;
  std::vector<float*> out_;
};

inline double median(std::vector<double> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

// Seconds of a kernel.
struct Times {
  double median, best;
};

// Times `kernel` and what limits it in turn, so that both see the same machine. `ratio` is our median over the limit's,
// `best_ratio` the same of the minima (for a machine that others use too).
template <class Kernel, class Limit>
Times run_beside(benchmark::State& state, Kernel&& kernel, Limit&& limit) {
  std::vector<double> times, limits;
  kernel();
  limit();
  for (auto _ : state) {
    auto start = std::chrono::steady_clock::now();
    kernel();
    times.push_back(seconds_since(start));
    state.SetIterationTime(times.back());
    start = std::chrono::steady_clock::now();
    limit();
    limits.push_back(seconds_since(start));
  }
  const double best = *std::min_element(times.begin(), times.end());
  const double best_limit = *std::min_element(limits.begin(), limits.end());
  state.counters["median_us"] = median(times) * 1e6;
  state.counters["ratio"] = median(times) / median(limits);
  state.counters["best_us"] = best * 1e6;
  state.counters["limit_us"] = best_limit * 1e6;
  state.counters["best_ratio"] = best / best_limit;
  return {median(times), best};
}

// Beside the traffic alone.
template <class F>
void run(benchmark::State& state, int inputs, int outputs, std::int64_t bytes, F&& kernel) {
  const BandwidthLimit limit(inputs, outputs, bytes);
  run_beside(state, kernel, [&] { limit.run(); });
}

// Restores the thread count that a benchmark sets.
class Threads {
 public:
  explicit Threads(int count) : before_(num_threads()) { set_num_threads(count); }
  ~Threads() { set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace mambasdk::bench
