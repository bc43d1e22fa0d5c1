// linear with few rows, as in decoding, against the bandwidth of reading its weights.
// Arguments: rows of x, in features, out features, bits of W, threads.
#include "bandwidth_limit.hpp"
#include "core/registry.hpp"
#include "ops/linear/linear.hpp"

namespace mambasdk {
namespace {

void linear(benchmark::State& state) {
  const std::int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  const DType type = state.range(3) == 32 ? dtype::f32 : dtype::bf16;
  const bench::Threads threads(static_cast<int>(state.range(4)));
  Registry ops;
  register_linear(ops);
  std::vector<float> x_memory(static_cast<std::size_t>(rows * in), 0.5f),
      y_memory(static_cast<std::size_t>(rows * out));
  std::vector<std::byte> weight_memory(static_cast<std::size_t>(in * out * type.bits / 8), std::byte{0x3d});
  const std::int64_t x_shape[] = {rows, in}, weight_shape[] = {out, in}, y_shape[] = {rows, out};
  const Tensor x = Tensor::contiguous(x_memory.data(), dtype::f32, x_shape, 2);
  const Tensor weight = Tensor::contiguous(weight_memory.data(), type, weight_shape, 2);
  const Value inputs[] = {{.tensor = &x}, {.tensor = &weight}, {.tensor = nullptr}};
  const Tensor outputs[] = {Tensor::contiguous(y_memory.data(), dtype::f32, y_shape, 2)};
  const Op& op = ops.get("linear");
  bench::run(state, 1, 0, weight.nbytes(), [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16}) {
    for (const int threads : {1, 2}) b->Args({1, 768, 50280, bits, threads});  // the language model's head
    b->Args({1, 768, 3072, bits, 2})->Args({1, 1536, 768, bits, 2})->Args({4, 768, 50280, bits, 2});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(linear)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
