// What this machine does at best, for shares of it: multiply-adds a second, of float32, of pairs of bfloat16 and of
// tiles of them, and bytes read a second. Arguments: threads; of `read` MiB and the threads.
#include <sys/mman.h>

#include "arithmetic_limit.hpp"

namespace mambasdk {
namespace {

template <class F>
double best_seconds(benchmark::State& state, F&& work) {
  work();
  std::vector<double> times;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    work();
    times.push_back(bench::seconds_since(start));
    state.SetIterationTime(times.back());
  }
  return *std::min_element(times.begin(), times.end());
}

constexpr double kMultiplyAdds = 320e6;

void rate(benchmark::State& state, bench::Arithmetic arithmetic, double adds) {
  const bench::Threads threads(static_cast<int>(state.range(0)));
  const double best = best_seconds(state, [&] { bench::run_limit(arithmetic, adds, default_context().parallel()); });
  state.counters["per_second"] = adds / best;
}

void multiply_adds(benchmark::State& state) {
  rate(state, bench::Arithmetic::float32, kMultiplyAdds);
}

void multiply_pairs(benchmark::State& state) {
  rate(state, bench::Arithmetic::pairs, 2 * kMultiplyAdds);
}

void multiply_tiles(benchmark::State& state) {
  if (active_isa() < Isa::avx512_amx) return state.SkipWithError("this processor has no tile registers");
  rate(state, bench::Arithmetic::tiles, 32 * kMultiplyAdds);
}

// Memory in large pages, where the system gives them.
class LargePages {
 public:
  explicit LargePages(std::size_t bytes)
      : bytes_(bytes), data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (data_ == MAP_FAILED) throw std::bad_alloc();
    madvise(data_, bytes_, MADV_HUGEPAGE);
    std::fill_n(data(), bytes_ / sizeof(float), 1.0f);
  }
  ~LargePages() { munmap(data_, bytes_); }
  LargePages(const LargePages&) = delete;
  LargePages& operator=(const LargePages&) = delete;
  [[nodiscard]] float* data() const { return static_cast<float*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

// The best of one to eight streams a thread.
void read(benchmark::State& state) {
  const bench::Threads threads(static_cast<int>(state.range(1)));
  const std::int64_t bytes = state.range(0) << 20;
  const LargePages memory(static_cast<std::size_t>(bytes));
  int streams = 1;
  const double best = best_seconds(state, [&] {
    benchmark::DoNotOptimize(MAMBASDK_PICK(limit_read)(memory.data(), bytes / std::int64_t{sizeof(float)}, streams,
                                                       default_context().parallel()));
    streams = streams == 8 ? 1 : 2 * streams;
  });
  state.counters["per_second"] = static_cast<double>(bytes) / best;
}

void threads_1_2(benchmark::internal::Benchmark* b) {
  b->Arg(2)->Arg(1)->UseManualTime()->MinTime(0.2);
}
BENCHMARK(multiply_adds)->Apply(threads_1_2);
BENCHMARK(multiply_pairs)->Apply(threads_1_2);
BENCHMARK(multiply_tiles)->Apply(threads_1_2);
BENCHMARK(read)->Args({256, 2})->Args({512, 2})->Args({256, 1})->Args({512, 1})->UseManualTime()->MinTime(0.2);

}  // namespace
}  // namespace mambasdk
