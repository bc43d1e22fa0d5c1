// rms_norm and layer_norm, forward and backward, plain and with a float32 residual, against the read and write
// bandwidth. Arguments: rows, channels, bits of T, threads.
#include <string>

#include "bandwidth_limit.hpp"
#include "core/registry.hpp"
#include "ops/norm/norm.hpp"

namespace mambasdk {
namespace {

struct Problem {
  explicit Problem(const benchmark::State& state)
      : shape{state.range(0), state.range(1)},
        type(state.range(2) == 32 ? dtype::f32 : dtype::bf16),
        bytes(shape[0] * shape[1] * type.bits / 8),
        threads(static_cast<int>(state.range(3))) {
    register_norm(ops);
    for (auto* memory : {&x, &grad_y, &y}) memory->assign(static_cast<std::size_t>(bytes), std::byte{0x3d});
    weight.assign(static_cast<std::size_t>(shape[1]), 0.25f);
    grad_weight = weight;
  }
  [[nodiscard]] Tensor rows(bench::Array<std::byte>& memory) const {
    return Tensor::contiguous(memory.data(), type, shape, 2);
  }
  [[nodiscard]] Tensor channels(bench::Array<float>& memory) const {
    return Tensor::contiguous(memory.data(), dtype::f32, shape + 1, 1);
  }

  Registry ops;
  std::int64_t shape[2];
  DType type;
  std::int64_t bytes;
  bench::Threads threads;
  bench::Array<std::byte> x, grad_y, y;
  bench::Array<float> weight, grad_weight;
};

void forward(benchmark::State& state, const char* name) {
  Problem p(state);
  const Tensor x = p.rows(p.x), weight = p.channels(p.weight);
  const Value inputs[] = {{.tensor = &x},      {.tensor = &weight}, {.tensor = nullptr},
                          {.tensor = nullptr}, {.tensor = nullptr}, {.real = 1e-5},
                          {.integer = 0},      {.flag = true},      {.flag = false}};
  const Tensor outputs[] = {p.rows(p.y), Tensor{}};
  const Op& op = p.ops.get(name);
  bench::run(state, 1, 1, p.bytes, [&] { op.call(default_context(), inputs, outputs); });
}

void backward(benchmark::State& state, const char* name) {
  Problem p(state);
  const Tensor x = p.rows(p.x), grad_y = p.rows(p.grad_y), weight = p.channels(p.weight);
  const Value inputs[] = {{.tensor = &grad_y}, {.tensor = nullptr}, {.tensor = &x},      {.tensor = &weight},
                          {.tensor = nullptr}, {.tensor = nullptr}, {.tensor = nullptr}, {.real = 1e-5},
                          {.integer = 0},      {.flag = true},      {.flag = false}};
  const Tensor outputs[] = {p.rows(p.y), p.channels(p.grad_weight), Tensor{}, Tensor{}, Tensor{}};
  const Op& op = p.ops.get(std::string(name) + "_backward");
  bench::run(state, 2, 1, p.bytes, [&] { op.call(default_context(), inputs, outputs); });
}

// residual_out = x + residual and its norm: two arrays in, two out.
void residual(benchmark::State& state, const char* name) {
  Problem p(state);
  bench::Array<std::byte> sum = p.x;
  const Tensor x = p.rows(p.x), other = p.rows(p.grad_y), weight = p.channels(p.weight);
  const Value inputs[] = {{.tensor = &x},     {.tensor = &weight}, {.tensor = nullptr},
                          {.tensor = &other}, {.tensor = nullptr}, {.real = 1e-5},
                          {.integer = 0},     {.flag = true},      {.flag = false}};
  const Tensor outputs[] = {p.rows(p.y), p.rows(sum)};
  const Op& op = p.ops.get(name);
  bench::run(state, 2, 2, p.bytes, [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16}) {
    for (const int threads : {1, 2}) b->Args({2048, 1536, bits, threads});
    b->Args({65536, 1536, bits, 2})->Args({65536, 64, bits, 2})->Args({1, 768, bits, 2});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK_CAPTURE(forward, rms_norm, "rms_norm")->Apply(shapes);
BENCHMARK_CAPTURE(forward, layer_norm, "layer_norm")->Apply(shapes);
BENCHMARK_CAPTURE(residual, rms_norm, "rms_norm")->Apply(shapes);
BENCHMARK_CAPTURE(backward, rms_norm, "rms_norm")->Apply(shapes);
BENCHMARK_CAPTURE(backward, layer_norm, "layer_norm")->Apply(shapes);

}  // namespace
}  // namespace mambasdk
