// gru against the multiply-adds of its recurrent product done in registers; with one row against the bandwidth of
// reading the weights once per step. Arguments: rows, length, units, bits of W, threads.
#include "ops/gru/gru_args.hpp"

#include "arithmetic_limit.hpp"

namespace mambasdk {
namespace {

void gru(benchmark::State& state) {
  const std::int64_t B = state.range(0), L = state.range(1), N = state.range(2);
  const DType type = state.range(3) == 32 ? dtype::f32 : dtype::bf16;
  const bench::Threads threads(static_cast<int>(state.range(4)));
  Registry ops;
  register_gru(ops);
  bench::Tensors t;
  const Tensor* weight = t.make(type, {3 * N, N}, 0.1);
  const Value inputs[] = {{.tensor = t.make(dtype::f32, {B, L, 3 * N})},
                          {.tensor = weight},
                          {.tensor = t.make(type, {3 * N})},
                          {.tensor = nullptr},
                          {.tensor = nullptr},
                          {.flag = false}};
  const Tensor outputs[] = {*t.make(dtype::f32, {B, L, N}), *t.make(dtype::f32, {B, N})};
  const Op& op = ops.get("gru");
  const auto kernel = [&] { op.call(default_context(), inputs, outputs); };
  if (B > 1) return bench::run_arithmetic(state, static_cast<double>(B * L * 3 * N) * static_cast<double>(N), kernel);
  // Steps of the weights' traffic, each from where the weights stay between steps.
  const bench::BandwidthLimit limit(1, 0, weight->nbytes());
  bench::run_beside(state, kernel, [&] {
    for (std::int64_t i = 0; i < L; ++i) limit.run();
  });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16}) {
    for (const int units : {64, 256, 512, 1024}) b->Args({1, 196, units, bits, 2});
    b->Args({32, 49, 512, bits, 2})->Args({32, 49, 1024, bits, 2})->Args({64, 100, 64, bits, 2});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(gru)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
