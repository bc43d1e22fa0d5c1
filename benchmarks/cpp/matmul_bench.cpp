// matmul against its multiply-adds done in registers.
// Arguments: products, M, K, N, whether y is transposed, bits of T, threads.
#include "ops/matmul/matmul.hpp"

#include "arithmetic_limit.hpp"

namespace mambasdk {
namespace {

void matmul(benchmark::State& state) {
  const std::int64_t count = state.range(0), M = state.range(1), K = state.range(2), N = state.range(3);
  const DType type = state.range(5) == 32 ? dtype::f32 : dtype::bf16;
  const bench::Threads threads(static_cast<int>(state.range(6)));
  Registry ops;
  register_matmul(ops);
  bench::Tensors t;
  const bool transposed = state.range(4) != 0;
  const Tensor* y = transposed ? t.transposed(t.make(type, {count, N, K})) : t.make(type, {count, K, N});
  const Value inputs[] = {{.tensor = t.make(type, {count, M, K})}, {.tensor = y}};
  const Tensor outputs[] = {*t.make(type, {count, M, N})};
  const Op& op = ops.get("matmul");
  bench::run_arithmetic(state, static_cast<double>(count * M * K) * static_cast<double>(N),
                        [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16}) {
    b->Args({192, 49, 32, 49, 1, bits, 2})->Args({192, 49, 49, 32, 0, bits, 2})->Args({1024, 7, 7, 7, 0, bits, 2});
    b->Args({6, 197, 64, 197, 1, bits, 2})->Args({1, 1024, 1024, 1024, 0, bits, 2});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(matmul)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
