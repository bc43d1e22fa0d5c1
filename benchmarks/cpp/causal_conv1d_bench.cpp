// causal_conv1d forward and backward (width 4, bias, SiLU) against the read and write bandwidth.
// Arguments: batch, length, channels, bits of T, threads.
#include "bandwidth_limit.hpp"
#include "core/registry.hpp"
#include "ops/causal_conv1d/causal_conv1d.hpp"

namespace mambasdk {
namespace {

struct Problem {
  explicit Problem(const benchmark::State& state)
      : batch(state.range(0)),
        length(state.range(1)),
        channels(state.range(2)),
        type(state.range(3) == 32 ? dtype::f32 : dtype::bf16),
        bytes(batch * length * channels * type.bits / 8),
        threads(static_cast<int>(state.range(4))) {
    register_causal_conv1d(ops);
    for (auto* memory : {&x, &grad_y, &y}) memory->assign(static_cast<std::size_t>(bytes), std::byte{0x3d});
    weight.assign(static_cast<std::size_t>(channels * 4), 0.25f);
    bias.assign(static_cast<std::size_t>(channels), 0.1f);
    grad_weight = weight;
    grad_bias = bias;
  }
  [[nodiscard]] Tensor sequence(bench::Array<std::byte>& memory) const {
    const std::int64_t shape[] = {batch, length, channels};
    return Tensor::contiguous(memory.data(), type, shape, 3);
  }
  [[nodiscard]] Tensor weights(bench::Array<float>& memory) const {
    const std::int64_t shape[] = {channels, 4};
    return Tensor::contiguous(memory.data(), dtype::f32, shape, 2);
  }
  [[nodiscard]] Tensor biases(bench::Array<float>& memory) const {
    return Tensor::contiguous(memory.data(), dtype::f32, &channels, 1);
  }

  Registry ops;
  std::int64_t batch, length, channels;
  DType type;
  std::int64_t bytes;
  bench::Threads threads;
  bench::Array<std::byte> x, grad_y, y;
  bench::Array<float> weight, bias, grad_weight, grad_bias;
};

void forward(benchmark::State& state) {
  Problem p(state);
  const Tensor x = p.sequence(p.x), weight = p.weights(p.weight), bias = p.biases(p.bias);
  const Value inputs[] = {{.tensor = &x},      {.tensor = &weight}, {.tensor = &bias}, {.tensor = nullptr},
                          {.tensor = nullptr}, {.flag = true},      {.flag = false},   {.flag = false},
                          {.tensor = nullptr}, {.tensor = nullptr}};
  const Tensor outputs[] = {p.sequence(p.y), Tensor{}};
  const Op& op = p.ops.get("causal_conv1d");
  bench::run(state, 1, 1, p.bytes, [&] { op.call(default_context(), inputs, outputs); });
}

void backward(benchmark::State& state) {
  Problem p(state);
  const Tensor x = p.sequence(p.x), grad_y = p.sequence(p.grad_y), weight = p.weights(p.weight),
               bias = p.biases(p.bias);
  const Value inputs[] = {{.tensor = &grad_y}, {.tensor = nullptr}, {.tensor = &x},      {.tensor = &weight},
                          {.tensor = &bias},   {.tensor = nullptr}, {.tensor = nullptr}, {.flag = true},
                          {.flag = false},     {.tensor = nullptr}, {.tensor = nullptr}};
  const Tensor outputs[] = {p.sequence(p.y), p.weights(p.grad_weight), p.biases(p.grad_bias), Tensor{}};
  const Op& op = p.ops.get("causal_conv1d_backward");
  bench::run(state, 2, 1, p.bytes, [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16}) {
    for (const int threads : {1, 2}) b->Args({1, 2048, 1536, bits, threads});
    b->Args({1, 65536, 1536, bits, 2})->Args({8, 2048, 1536, bits, 2})->Args({4096, 10, 64, bits, 2});
    b->Args({1, 64, 1536, bits, 2})->Args({1, 1, 1536, bits, 2});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
