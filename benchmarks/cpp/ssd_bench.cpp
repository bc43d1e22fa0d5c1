// ssd, forward and backward, against the multiply-adds of its matrix products done in registers.
// Arguments: length, heads, headdim, state, bits of T, threads. One batch entry, one group; backward with saved states.
#include <limits>
#include <string>

#include "arithmetic_limit.hpp"
#include "ops/ssd/ssd_args.hpp"

namespace mambasdk {
namespace {

struct Problem {
  explicit Problem(const benchmark::State& state)
      : L(state.range(0)),
        H(state.range(1)),
        P(state.range(2)),
        N(state.range(3)),
        type(state.range(4) == 32 ? dtype::f32 : dtype::bf16),
        threads(static_cast<int>(state.range(5))) {
    register_ssd(ops);
  }
  const Tensor* tensor(DType of, std::initializer_list<std::int64_t> shape, double scale = 1.0, double shift = 0.0) {
    return tensors.make(of, shape, scale, shift);
  }
  // x, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens, seq_idx
  std::vector<Value> inputs() {
    return {{.tensor = tensor(type, {1, L, H, P})},
            {.tensor = tensor(type, {1, L, H})},
            {.tensor = tensor(dtype::f32, {H}, 14.0, -8.0)},
            {.tensor = tensor(type, {1, L, 1, N})},
            {.tensor = tensor(type, {1, L, 1, N})},
            {.tensor = tensor(dtype::f32, {H, 1})},
            {.tensor = nullptr},
            {.tensor = tensor(dtype::f32, {H}, 1.0, -4.0)},
            {.tensor = nullptr},
            {.tensor = nullptr},
            {.tensor = nullptr}};
  }
  static std::vector<Value> scalars() {
    return {{.flag = true},
            {.real = 0.0},
            {.real = std::numeric_limits<double>::infinity()},
            {.flag = true},
            {.flag = false}};
  }
  // Multiply-adds of the products between `states` pairs of state-sized factors and `pairs` pairs of step-sized ones.
  [[nodiscard]] double multiply_adds(double states, double pairs) const {
    const double chunk = ssd::kSsdChunk;
    return static_cast<double>(L * H * P) * (states * static_cast<double>(N) + pairs * chunk / 2) +
           static_cast<double>(L * N) * chunk;
  }

  Registry ops;
  std::int64_t L, H, P, N;
  DType type;
  bench::Threads threads;
  bench::Tensors tensors;
};

void forward(benchmark::State& state) {
  Problem p(state);
  std::vector<Value> inputs = p.inputs();
  for (const Value& scalar : Problem::scalars()) inputs.push_back(scalar);
  inputs.push_back({.flag = false});
  inputs.push_back({.flag = false});
  const Tensor outputs[] = {*p.tensor(p.type, {1, p.L, p.H, p.P}), Tensor{}, Tensor{}};
  const Op& op = p.ops.get("ssd");
  bench::run_arithmetic(state, p.multiply_adds(2, 1), [&] { op.call(default_context(), inputs, outputs); });
}

void backward(benchmark::State& state) {
  Problem p(state);
  std::vector<Value> inputs = {{.tensor = p.tensor(p.type, {1, p.L, p.H, p.P})}, {.tensor = nullptr}};
  for (const Value& input : p.inputs()) inputs.push_back(input);
  inputs.push_back({.tensor = p.tensor(p.type, {p.L / ssd::kSsdChunk + 1, p.H, p.N, p.P})});
  for (const Value& scalar : Problem::scalars()) inputs.push_back(scalar);
  const Tensor outputs[] = {*p.tensor(p.type, {1, p.L, p.H, p.P}),
                            *p.tensor(p.type, {1, p.L, p.H}),
                            *p.tensor(dtype::f32, {p.H}),
                            *p.tensor(p.type, {1, p.L, 1, p.N}),
                            *p.tensor(p.type, {1, p.L, 1, p.N}),
                            *p.tensor(dtype::f32, {p.H, 1}),
                            Tensor{},
                            *p.tensor(dtype::f32, {p.H}),
                            Tensor{}};
  const Op& op = p.ops.get("ssd_backward");
  bench::run_arithmetic(state, p.multiply_adds(4, 2), [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16})
    for (const int threads : {1, 2}) b->Args({2048, 24, 64, 128, bits, threads});
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
