// Broadcast addition, copies in another order, joins, sums and softmax against the bandwidth of their traffic.
// Arguments: batch, rows, columns, bits of T, threads.
#include <string>

#include "bandwidth_limit.hpp"
#include "core/registry.hpp"
#include "ops/elementwise/elementwise.hpp"
#include "ops/layout/layout.hpp"
#include "ops/reduce/reduce.hpp"
#include "ops/softmax/softmax.hpp"

namespace mambasdk {
namespace {

struct Problem {
  explicit Problem(const benchmark::State& state)
      : shape{state.range(0), state.range(1), state.range(2)},
        type(state.range(3) == 32 ? dtype::f32 : dtype::bf16),
        bytes(shape[0] * shape[1] * shape[2] * type.bits / 8),
        threads(static_cast<int>(state.range(4))) {
    register_elementwise(ops);
    register_layout(ops);
    register_reduce(ops);
    register_softmax(ops);
    for (auto* memory : {&in, &other}) memory->assign(static_cast<std::size_t>(bytes), std::byte{0x3d});
    out.assign(static_cast<std::size_t>(2 * bytes), std::byte{0});
    x = tensor(in);
    y = tensor(other);
    result = tensor(out);
  }
  [[nodiscard]] Tensor tensor(bench::Array<std::byte>& memory) const {
    return Tensor::contiguous(memory.data(), type, shape, 3);
  }

  Registry ops;
  std::int64_t shape[3];
  DType type;
  std::int64_t bytes;
  bench::Threads threads;
  bench::Array<std::byte> in, other, out;
  Tensor x, y, result;
};

void add(benchmark::State& state) {
  Problem p(state);
  const Value inputs[] = {{.tensor = &p.x}, {.tensor = &p.y}};
  bench::run(state, 2, 1, p.bytes, [&] { p.ops.get("add").call(default_context(), inputs, {&p.result, 1}); });
}

// One argument with one row for each batch entry, or with one element at all.
void add_broadcast(benchmark::State& state, bool scalar) {
  Problem p(state);
  p.y.strides[1] = 0;
  if (scalar) p.y.strides = {};
  const Value inputs[] = {{.tensor = &p.x}, {.tensor = &p.y}};
  bench::run(state, 1, 1, p.bytes, [&] { p.ops.get("add").call(default_context(), inputs, {&p.result, 1}); });
}

void turn(Tensor& t) {
  std::swap(t.shape[1], t.shape[2]);
  std::swap(t.strides[1], t.strides[2]);
}

// Both arguments lie (batch, columns, rows).
void add_permuted(benchmark::State& state) {
  Problem p(state);
  turn(p.x);
  turn(p.y);
  p.result = Tensor::contiguous(p.result.data, p.type, p.x.shape.data(), 3);
  const Value inputs[] = {{.tensor = &p.x}, {.tensor = &p.y}};
  bench::run(state, 2, 1, p.bytes, [&] { p.ops.get("add").call(default_context(), inputs, {&p.result, 1}); });
}

void copy_transposed(benchmark::State& state) {
  Problem p(state);
  turn(p.x);
  p.result = Tensor::contiguous(p.result.data, p.type, p.x.shape.data(), 3);
  const Value inputs[] = {{.tensor = &p.x}};
  bench::run(state, 1, 1, p.bytes, [&] { p.ops.get("copy").call(default_context(), inputs, {&p.result, 1}); });
}

void concat_rows(benchmark::State& state) {
  Problem p(state);
  p.shape[1] *= 2;
  const Tensor out = p.tensor(p.out);
  const Value inputs[] = {{.tensor = &p.x}, {.tensor = &p.y}};
  bench::run(state, 2, 2, p.bytes, [&] { p.ops.get("concat_rows").call(default_context(), inputs, {&out, 1}); });
}

void reduction(benchmark::State& state, const char* name) {
  const bool indices = std::string(name).starts_with("arg");
  Problem p(state);
  const std::int64_t shape[] = {p.shape[0], p.shape[2]};
  const Tensor out = Tensor::contiguous(p.out.data(), indices ? dtype::i32 : p.type, shape, 2);
  const Value inputs[] = {{.tensor = &p.x}};
  bench::run(state, 1, 0, p.bytes, [&] { p.ops.get(name).call(default_context(), inputs, {&out, 1}); });
}

void softmax(benchmark::State& state) {
  Problem p(state);
  const Value inputs[] = {{.tensor = &p.x}, {.flag = false}};
  bench::run(state, 1, 1, p.bytes, [&] { p.ops.get("softmax").call(default_context(), inputs, {&p.result, 1}); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16}) {
    for (const int threads : {1, 2}) b->Args({8, 3136, 96, bits, threads});
    b->Args({1, 197, 768, bits, 2});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
void sums(benchmark::internal::Benchmark* b) {
  shapes(b);
  for (const int bits : {32, 16}) b->Args({25088, 96, 1, bits, 2})->Args({1, 2408448, 1, bits, 2});
}
BENCHMARK(add)->Apply(shapes);
BENCHMARK_CAPTURE(add_broadcast, rows, false)->Apply(shapes);
BENCHMARK_CAPTURE(add_broadcast, scalar, true)->Apply(shapes);
BENCHMARK(add_permuted)->Apply(shapes);
BENCHMARK(copy_transposed)->Apply(shapes);
BENCHMARK(concat_rows)->Apply(shapes);
BENCHMARK_CAPTURE(reduction, sum_rows, "sum_rows")->Apply(sums);
BENCHMARK_CAPTURE(reduction, max_rows, "max_rows")->Apply(sums);
BENCHMARK_CAPTURE(reduction, argmax_rows, "argmax_rows")->Apply(sums);
BENCHMARK(softmax)->Args({96, 197, 197, 32, 2})->Args({96, 197, 197, 16, 2})->UseManualTime()->MinTime(0.2);

}  // namespace
}  // namespace mambasdk
