// attention against the multiply-adds of its two products done in registers; decoding against the bandwidth of reading
// keys and values. Arguments: queries, keys, heads, groups, head width, causal, bits of T, threads.
#include "ops/attention/attention_args.hpp"

#include "arithmetic_limit.hpp"

namespace mambasdk {
namespace {

void attention(benchmark::State& state) {
  const std::int64_t L = state.range(0), S = state.range(1), H = state.range(2), G = state.range(3), E = state.range(4);
  const bool causal = state.range(5) != 0;
  const DType type = state.range(6) == 32 ? dtype::f32 : dtype::bf16;
  const bench::Threads threads(static_cast<int>(state.range(7)));
  Registry ops;
  register_attention(ops);
  bench::Tensors t;
  const Value inputs[] = {{.tensor = t.make(type, {1, L, H, E})},
                          {.tensor = t.make(type, {1, S, G, E})},
                          {.tensor = t.make(type, {1, S, G, E})},
                          {.tensor = nullptr},
                          {.real = 0.125},
                          {.flag = causal},
                          {.integer = 0},
                          {.flag = false}};
  const Tensor outputs[] = {*t.make(type, {1, L, H, E}), Tensor{}};
  const Op& op = ops.get("attention");
  const auto kernel = [&] { op.call(default_context(), inputs, outputs); };
  if (L == 1) return bench::run(state, 2, 0, inputs[1].tensor->nbytes(), kernel);
  double pairs = static_cast<double>(L) * static_cast<double>(S);
  if (causal) pairs = static_cast<double>(L) * (static_cast<double>(S) - static_cast<double>(L - 1) / 2);
  bench::run_arithmetic(state, pairs * static_cast<double>(2 * H * E), kernel);
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2})
    for (const int bits : {32, 16}) {
      b->Args({197, 197, 6, 6, 64, 0, bits, threads});
      b->Args({512, 512, 12, 12, 64, 0, bits, threads})->Args({512, 512, 12, 12, 64, 1, bits, threads});
      b->Args({1, 4096, 12, 12, 64, 1, bits, threads})->Args({1, 4096, 32, 8, 64, 1, bits, threads});
    }
  b->Args({4096, 4096, 12, 12, 64, 0, 32, 2})->Args({4096, 4096, 12, 12, 64, 1, 32, 2});
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(attention)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
