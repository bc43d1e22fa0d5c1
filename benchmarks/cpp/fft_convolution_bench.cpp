// fft_convolution against its own arithmetic done in registers: three transforms, or the products of few taps.
// Arguments: rows of the batch, length, channels, taps, threads.
#include "ops/fft_convolution/fft_convolution.hpp"

#include <bit>

#include "arithmetic_limit.hpp"

namespace mambasdk {
namespace {

void fft_convolution(benchmark::State& state) {
  const std::int64_t B = state.range(0), L = state.range(1), D = state.range(2), K = state.range(3);
  const bench::Threads threads(static_cast<int>(state.range(4)));
  Registry ops;
  register_fft_convolution(ops);
  bench::Tensors t;
  const Value inputs[] = {{.tensor = t.make(dtype::f32, {B, L, D})},
                          {.tensor = t.make(dtype::f32, {K, D})},
                          {.tensor = nullptr},
                          {.flag = false}};
  const Tensor outputs[] = {*t.make(dtype::f32, {B, L, D})};
  const Op& op = ops.get("fft_convolution");
  double each = static_cast<double>(L * K);
  if (K > mambasdk::fft_convolution::kDirectTaps) {
    // Per point and level 3 instructions forward and 4 back; 6 for the product.
    const std::int64_t points = mambasdk::fft_convolution::fft_length(L, K) / 2;
    each = static_cast<double>(points) * (7.0 * static_cast<double>(std::bit_width(std::uint64_t(points)) - 1) + 6.0);
    each += static_cast<double>(points) * 3.0 * static_cast<double>(std::bit_width(std::uint64_t(points)) - 1) /
            static_cast<double>(B);  // the kernel's transform, once for all rows
  }
  bench::run_arithmetic(state, each * static_cast<double>(B * D), [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2}) b->Args({1, 4096, 768, 4096, threads});
  b->Args({8, 1024, 256, 1024, 2})->Args({1, 16384, 256, 16384, 2})->Args({1, 65536, 64, 65536, 2});
  b->Args({1, 4096, 768, 64, 2});
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(fft_convolution)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
