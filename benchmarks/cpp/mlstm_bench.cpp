// mlstm, forward and backward, against the multiply-adds of its matrix products done in registers; one step against the
// bandwidth of reading and writing the state. Arguments: length, heads, width of a head, threads; one batch entry.
#include "ops/mlstm/mlstm_args.hpp"

#include "arithmetic_limit.hpp"

namespace mambasdk {
namespace {

constexpr std::int64_t kChunk = 64;

struct Problem {
  explicit Problem(const benchmark::State& state)
      : L(state.range(0)), H(state.range(1)), E(state.range(2)), threads(static_cast<int>(state.range(3))) {
    register_mlstm(ops);
  }
  const Tensor* rows() { return tensors.make(dtype::f32, {1, L, H, E}, 3.0); }
  const Tensor* gates(double shift) { return tensors.make(dtype::f32, {1, L, H}, 2.0, shift); }
  // q, k, v, igate, fgate, initial_C, initial_n, initial_m, cu_seqlens, chunk
  std::vector<Value> inputs() {
    return {{.tensor = rows()},     {.tensor = rows()},  {.tensor = rows()},  {.tensor = gates(0.0)},
            {.tensor = gates(4.0)}, {.tensor = nullptr}, {.tensor = nullptr}, {.tensor = nullptr},
            {.tensor = nullptr},    {.integer = kChunk}};
  }
  // Of products with the state, E x E for each step, and of triangles of a chunk's pairs of steps.
  [[nodiscard]] double multiply_adds(double states, double triangles) const {
    return static_cast<double>(L * H * E) * (states * static_cast<double>(E) + triangles * kChunk / 2);
  }

  Registry ops;
  std::int64_t L, H, E;
  bench::Threads threads;
  bench::Tensors tensors;
};

void forward(benchmark::State& state) {
  Problem p(state);
  std::vector<Value> inputs = p.inputs();
  inputs.push_back({.flag = false});
  const Tensor outputs[] = {*p.rows(), Tensor{}, Tensor{}, Tensor{}};
  const Op& op = p.ops.get("mlstm");
  bench::run_arithmetic(state, p.multiply_adds(2, 2), [&] { op.call(default_context(), inputs, outputs); });
}

void backward(benchmark::State& state) {
  Problem p(state);
  std::vector<Value> inputs = {{.tensor = p.rows()}, {.tensor = nullptr}, {.tensor = nullptr}, {.tensor = nullptr}};
  for (const Value& input : p.inputs()) inputs.push_back(input);
  const Tensor outputs[] = {*p.rows(),     *p.rows(), *p.rows(), *p.gates(0.0),
                            *p.gates(0.0), Tensor{},  Tensor{},  Tensor{}};
  const Op& op = p.ops.get("mlstm_backward");
  bench::run_arithmetic(state, p.multiply_adds(6, 6), [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2}) {
    for (const int length : {1024, 2048, 4096, 8192, 16384}) b->Args({length, 4, 64, threads});
    for (const int width : {25, 128, 256}) b->Args({1024, 4, width, threads});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(forward)->Name("mlstm")->Apply(shapes);
BENCHMARK(backward)->Name("mlstm_backward")->Apply(shapes);

}  // namespace
}  // namespace mambasdk
