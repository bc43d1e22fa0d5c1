// What this machine does at best on two threads, for shares of it: multiply-adds a second, and bytes read a second.
// Argument of `read`: MiB, of `multiply_adds`: millions of vectors.
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

void multiply_adds(benchmark::State& state) {
  const bench::Threads threads(2);
  const int lanes = active_isa() >= Isa::avx512 ? 16 : active_isa() == Isa::avx2 ? 8 : 4;
  const std::int64_t count = state.range(0) * 1'000'000;
  const double best = best_seconds(state, [&] { MAMBASDK_PICK(limit_fma)(count, default_context().parallel()); });
  state.counters["per_second"] = static_cast<double>(count) * lanes / best;
}
BENCHMARK(multiply_adds)->Arg(20)->UseManualTime()->MinTime(0.1);

void read(benchmark::State& state) {
  const bench::Threads threads(2);
  const std::int64_t bytes = state.range(0) << 20;
  const bench::BandwidthLimit limit(1, 0, bytes);
  const double best = best_seconds(state, [&] { limit.run(); });
  state.counters["per_second"] = static_cast<double>(bytes) / best;
}
BENCHMARK(read)->Arg(256)->Arg(512)->UseManualTime()->MinTime(0.1);

}  // namespace
}  // namespace mambasdk
