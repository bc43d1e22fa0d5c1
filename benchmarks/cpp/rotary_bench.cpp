// rotary against the bandwidth of reading x and writing y. Arguments: length, heads, head width, interleaved, bits of
// T, threads.
#include "ops/rotary/rotary.hpp"

#include "arithmetic_limit.hpp"

namespace mambasdk {
namespace {

void rotary(benchmark::State& state) {
  const std::int64_t L = state.range(0), H = state.range(1), E = state.range(2);
  const DType type = state.range(4) == 32 ? dtype::f32 : dtype::bf16;
  const bench::Threads threads(static_cast<int>(state.range(5)));
  Registry ops;
  register_rotary(ops);
  bench::Tensors t;
  const Tensor* x = t.make(type, {1, L, H, E});
  const Value inputs[] = {{.tensor = x},
                          {.tensor = t.make(dtype::f32, {L, E / 2})},
                          {.tensor = t.make(dtype::f32, {L, E / 2})},
                          {.flag = state.range(3) != 0}};
  const Tensor outputs[] = {*t.make(type, {1, L, H, E})};
  const Op& op = ops.get("rotary");
  bench::run(state, 1, 1, x->nbytes(), [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16})
    for (const int interleaved : {0, 1}) b->Args({4096, 12, 64, interleaved, bits, 2});
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(rotary)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
