// selective_scan forward and backward (16 states, float32 or bfloat16), each against a bare loop of the exponentials
// and multiply-adds that it needs, on the same number of updates. Counters: G/s are (step, channel, state) updates.
// Arguments: batch, length, channels, routes, bits of T, threads.
#include <cstring>

#include "bandwidth_limit.hpp"
#include "core/registry.hpp"
#include "ops/selective_scan/selective_scan.hpp"

namespace mambasdk {
namespace {

constexpr std::int64_t kStates = 16;

// Tensors of one call, filled with a fixed pattern in [low, high).
class Memory {
 public:
  Tensor make(DType type, std::initializer_list<std::int64_t> shape, float low = 0.0f, float high = 0.0f) {
    Tensor t = Tensor::contiguous(nullptr, type, shape.begin(), static_cast<int>(shape.size()));
    blocks_.emplace_back(static_cast<std::size_t>(t.nbytes()) + 64);
    t.data = blocks_.back().data() + (64 - reinterpret_cast<std::uintptr_t>(blocks_.back().data()) % 64);
    std::uint32_t random = 1;
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      random = random * 1664525u + 1013904223u;
      const float x = low + (high - low) * static_cast<float>(random >> 8) * 0x1p-24f;
      if (type == dtype::f32) {
        t.ptr<float>()[i] = x;
      } else {
        t.ptr<bf16>()[i] = from_float<bf16>::cast(x);
      }
    }
    return t;
  }
  const Tensor* keep(const Tensor& t) {
    tensors_.push_back(std::make_unique<Tensor>(t));
    return tensors_.back().get();
  }

 private:
  std::vector<std::vector<std::byte>> blocks_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
};

struct Problem {
  explicit Problem(const benchmark::State& state)
      : batch(state.range(0)),
        length(state.range(1)),
        channels(state.range(2)),
        routes(state.range(3)),
        type(state.range(4) == 32 ? dtype::f32 : dtype::bf16),
        threads(static_cast<int>(state.range(5))) {
    register_selective_scan(ops);
    const auto input = [&](DType of, std::initializer_list<std::int64_t> shape, float low, float high) {
      inputs.push_back({.tensor = memory.keep(memory.make(of, shape, low, high))});
    };
    input(type, {batch, length, channels}, -1.0f, 1.0f);
    input(type, {batch, routes, length, channels}, 0.001f, 0.1f);
    input(dtype::f32, {routes, channels, kStates}, -16.0f, -1.0f);
    input(type, {batch, routes, length, 1, kStates}, -1.0f, 1.0f);
    input(type, {batch, routes, length, 1, kStates}, -1.0f, 1.0f);
    for (int i = 0; i < 4; ++i) inputs.push_back({.tensor = nullptr});  // D, z, delta_bias, initial_state
    inputs.push_back({.tensor = routes > 1 ? memory.keep(order()) : nullptr});
    inputs.push_back({.tensor = nullptr});
    y = memory.make(type, {batch, length, channels});
    chunk_states = memory.make(dtype::f32, {batch, routes, (length + 127) / 128, channels, kStates});
    updates = static_cast<double>(batch * routes * length * channels * kStates);
  }
  // Forwards, backwards, and both again by columns of a grid: the routes of a vision model.
  Tensor order() {
    Tensor t = Tensor::contiguous(nullptr, dtype::i32, std::array{routes, length}.data(), 2);
    order_.resize(static_cast<std::size_t>(routes * length));
    std::int64_t side = 1;
    while (side * side < length) ++side;
    std::vector<std::int32_t> columns;
    for (std::int64_t c = 0; c < side; ++c) {
      for (std::int64_t p = c; p < length; p += side) columns.push_back(static_cast<std::int32_t>(p));
    }
    for (std::int64_t k = 0; k < routes; ++k) {
      for (std::int64_t i = 0; i < length; ++i) {
        const std::int64_t at = k % 2 == 0 ? i : length - 1 - i;
        order_[static_cast<std::size_t>(k * length + i)] =
            k % 4 < 2 ? static_cast<std::int32_t>(at) : columns[static_cast<std::size_t>(at)];
      }
    }
    t.data = order_.data();
    return t;
  }

  Registry ops;
  std::int64_t batch, length, channels, routes;
  DType type;
  bench::Threads threads;
  Memory memory;
  std::vector<Value> inputs;
  Tensor y, chunk_states;
  double updates;

 private:
  std::vector<std::int32_t> order_;
};

// The bare loops, on tensors of their own that fit the same number of updates.
class ScanLimit {
 public:
  ScanLimit(const Problem& p, bool backward) : backward_(backward), channels_((p.channels + 15) / 16 * 16) {
    steps_ = std::max<std::int64_t>(1, static_cast<std::int64_t>(p.updates) / (channels_ * kStates));
    delta_ = memory_.make(dtype::f32, {steps_, channels_}, 0.001f, 0.1f);
    u_ = memory_.make(dtype::f32, {steps_, channels_}, -1.0f, 1.0f);
    A_ = memory_.make(dtype::f32, {channels_, kStates}, -16.0f, -1.0f);
    B_ = memory_.make(dtype::f32, {steps_, kStates}, -1.0f, 1.0f);
    C_ = memory_.make(dtype::f32, {steps_, kStates}, -1.0f, 1.0f);
    y_ = memory_.make(dtype::f32, {steps_, channels_});
    if (!backward_) return;
    grad_u_ = memory_.make(dtype::f32, {steps_, channels_});
    grad_delta_ = memory_.make(dtype::f32, {steps_, channels_});
  }
  void run() const {
    if (backward_) {
      return MAMBASDK_PICK(limit_scan_backward)(
          steps_, channels_, delta_.ptr<float>(), u_.ptr<float>(), A_.ptr<float>(), B_.ptr<float>(), C_.ptr<float>(),
          y_.ptr<float>(), grad_u_.ptr<float>(), grad_delta_.ptr<float>(), default_context().parallel());
    }
    MAMBASDK_PICK(limit_scan)(steps_, channels_, delta_.ptr<float>(), u_.ptr<float>(), A_.ptr<float>(), B_.ptr<float>(),
                              C_.ptr<float>(), y_.ptr<float>(), default_context().parallel());
  }

 private:
  bool backward_;
  std::int64_t channels_, steps_;
  Memory memory_;
  Tensor delta_, u_, A_, B_, C_, y_, grad_u_, grad_delta_;
};

template <class F>
void measure(benchmark::State& state, const Problem& p, bool backward, F&& kernel) {
  const ScanLimit limit(p, backward);
  state.counters["best_G/s"] = p.updates / bench::run_beside(state, kernel, [&] { limit.run(); }).best * 1e-9;
}

void forward(benchmark::State& state) {
  Problem p(state);
  for (int i = 0; i < 5; ++i) p.inputs.push_back({.flag = false});
  const Tensor outputs[] = {p.y, Tensor{}, Tensor{}};
  const Op& op = p.ops.get("selective_scan");
  measure(state, p, false, [&] { op.call(default_context(), p.inputs, outputs); });
}

// With the chunk states that a forward in training saves.
void backward(benchmark::State& state) {
  Problem p(state);
  const Tensor grad_y = p.memory.make(p.type, {p.batch, p.length, p.channels}, -1.0f, 1.0f);
  std::vector<Value> inputs = {{.tensor = &grad_y}, {.tensor = nullptr}};
  inputs.insert(inputs.end(), p.inputs.begin(), p.inputs.end());
  inputs.push_back({.tensor = &p.chunk_states});
  for (int i = 0; i < 3; ++i) inputs.push_back({.flag = false});
  for (const bool flag : {false, false, false, true, false}) p.inputs.push_back({.flag = flag});
  const Tensor saved[] = {p.y, Tensor{}, p.chunk_states};
  p.ops.get("selective_scan").call(default_context(), p.inputs, saved);
  const Op& op = p.ops.get("selective_scan_backward");
  std::vector<Tensor> outputs;
  for (const Tensor& planned : op.plan(inputs).outputs) {
    outputs.push_back(planned);
    if (planned.numel() == 0) continue;
    Tensor& t = outputs.back();
    const auto& s = t.shape;
    t.data = (t.ndim == 3   ? p.memory.make(t.dtype, {s[0], s[1], s[2]})
              : t.ndim == 4 ? p.memory.make(t.dtype, {s[0], s[1], s[2], s[3]})
                            : p.memory.make(t.dtype, {s[0], s[1], s[2], s[3], s[4]}))
                 .data;
  }
  measure(state, p, true, [&] { op.call(default_context(), inputs, outputs); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2}) b->Args({1, 2048, 1536, 1, 32, threads});
  b->Args({1, 2048, 1536, 1, 16, 2})->Args({1, 65536, 1536, 1, 32, 2})->Args({8, 512, 1536, 1, 32, 2});
  b->Args({1, 64, 1536, 1, 32, 2})->Args({1, 3136, 192, 4, 32, 2})->Args({1, 12544, 192, 1, 32, 2});
  b->Args({4096, 10, 64, 1, 32, 2})->Args({1, 1, 1536, 1, 32, 2})->Args({1, 65536, 16, 1, 32, 2});
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward)->Apply(shapes);

// G vectors per second of the exponential and of multiply-adds, and what the scan loop makes of them.
void arithmetic(benchmark::State& state) {
  const bench::Threads threads(static_cast<int>(state.range(0)));
  constexpr std::int64_t kCount = std::int64_t{1} << 22;
  for (auto _ : state) {
    auto start = std::chrono::steady_clock::now();
    MAMBASDK_PICK(limit_exp)(kCount, default_context().parallel());
    const double exp = bench::seconds_since(start);
    start = std::chrono::steady_clock::now();
    MAMBASDK_PICK(limit_fma)(kCount, default_context().parallel());
    const double fma = bench::seconds_since(start);
    state.counters["exp_G/s"] = std::max(state.counters["exp_G/s"].value, static_cast<double>(kCount) / exp * 1e-9);
    state.counters["fma_G/s"] = std::max(state.counters["fma_G/s"].value, static_cast<double>(kCount) / fma * 1e-9);
    state.SetIterationTime(exp + fma);
  }
}
BENCHMARK(arithmetic)->Arg(1)->Arg(2)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace mambasdk
