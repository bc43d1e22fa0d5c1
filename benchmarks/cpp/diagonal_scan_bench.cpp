// diagonal_scan forward and backward, with constant coefficients and with those of every step, against the read and
// write bandwidth. Arguments: batch, length, channels, bits of the dtype (64: complex), coefficients per step, threads.
#include "bandwidth_limit.hpp"
#include "core/registry.hpp"
#include "ops/diagonal_scan/diagonal_scan.hpp"

namespace mambasdk {
namespace {

DType type_of(std::int64_t bits) {
  return bits == 64 ? dtype::c64 : bits == 32 ? dtype::f32 : dtype::bf16;
}

struct Problem {
  explicit Problem(const benchmark::State& state)
      : shape{state.range(0), state.range(1), state.range(2)},
        a_shape{1, state.range(4) != 0 ? state.range(1) : 1, state.range(2)},
        type(type_of(state.range(3))),
        bytes(shape[0] * shape[1] * shape[2] * type.bits / 8),
        varying(state.range(4) != 0),
        threads(static_cast<int>(state.range(5))) {
    register_diagonal_scan(ops);
    for (auto* memory : {&b, &x, &grad_x, &grad_b}) memory->assign(static_cast<std::size_t>(bytes), std::byte{0x3d});
    for (auto* memory : {&a, &grad_a}) memory->assign(static_cast<std::size_t>(bytes), std::byte{0x3d});
  }
  [[nodiscard]] Tensor sequence(bench::Array<std::byte>& memory) const {
    return Tensor::contiguous(memory.data(), type, shape, 3);
  }
  [[nodiscard]] Tensor coefficients(bench::Array<std::byte>& memory) const {
    return Tensor::contiguous(memory.data(), type, a_shape, 3);
  }

  Registry ops;
  std::int64_t shape[3], a_shape[3];
  DType type;
  std::int64_t bytes;
  bool varying;
  bench::Threads threads;
  bench::Array<std::byte> b, x, grad_x, grad_b, a, grad_a;
};

void forward(benchmark::State& state) {
  Problem p(state);
  const Tensor b = p.sequence(p.b), a = p.coefficients(p.a);
  const Value inputs[] = {{.tensor = &b},  {.tensor = &a},  {.tensor = nullptr},
                          {.flag = false}, {.flag = false}, {.tensor = nullptr}};
  const Tensor outputs[] = {p.sequence(p.x), Tensor{}};
  const Op& op = p.ops.get("diagonal_scan");
  bench::run(state, p.varying ? 2 : 1, 1, p.bytes, [&] { op.call(default_context(), inputs, outputs); });
}

void backward(benchmark::State& state) {
  Problem p(state);
  const Tensor grad_x = p.sequence(p.grad_x), a = p.coefficients(p.a), x = p.sequence(p.x);
  const Value inputs[] = {{.tensor = &grad_x}, {.tensor = nullptr}, {.tensor = &a},     {.tensor = &x},
                          {.tensor = nullptr}, {.flag = false},     {.tensor = nullptr}};
  const Tensor outputs[] = {p.sequence(p.grad_b), p.coefficients(p.grad_a), Tensor{}};
  const Op& op = p.ops.get("diagonal_scan_backward");
  bench::run(state, p.varying ? 3 : 2, p.varying ? 2 : 1, p.bytes,
             [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int varying : {0, 1}) {
    for (const int bits : {32, 16, 64}) {
      for (const int threads : {1, 2}) b->Args({1, 2048, 1536, bits, varying, threads});
    }
    b->Args({1, 65536, 1536, 32, varying, 2});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
